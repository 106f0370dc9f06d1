// What operations take as tensors: a Tensor, or plain memory of the caller's. Neither is named by
// the caller; both become a TensorRef by themselves:
//
//   group.AllReduce(tensor);                                     // a Tensor: nothing is copied
//   group.AllReduce(gradients);                                  // a std::vector<float>
//   group.AllReduce({halves, tutti::DataType::kBfloat16, 1000});  // a void*
//
// Plain memory that is read is copied into the shared memory when the operation is submitted, and
// may change from then on. What is written is copied back by the first Work::Wait, if the operation
// ended well, and must live until then.
//
// Values; as thread-safe as an int.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "base/types.h"
#include "client/cpp/tensor.h"

namespace tutti {
inline namespace client {

// C++ types that are elements.
template <typename T>
concept Element = (kDataTypeOf<T> != DataType::kNone);

// The same but for bool: a std::vector<bool> has no elements in memory.
template <typename T>
concept VectorElement = Element<T> && !std::same_as<T, bool>;

class TensorRef {
 public:
  // Nothing: what ranks other than the root give where only the root's counts. Elsewhere the
  // operation fails with kInvalid.
  TensorRef() = default;

  // An invalid Tensor is nothing.
  TensorRef(const Tensor& tensor)  // NOLINT(google-explicit-constructor): the point of this class
      : dtype_(tensor.dtype()), count_(tensor.count()), tensor_(tensor) {}

  template <Element T>
  TensorRef(absl::Span<T> values)  // NOLINT(google-explicit-constructor): the point of this class
      : TensorRef(values.data(), kDataTypeOf<T>, values.size()) {}

  template <VectorElement T>
  TensorRef(std::vector<T>& values)  // NOLINT(google-explicit-constructor): the point of this class
      : TensorRef(values.data(), kDataTypeOf<T>, values.size()) {}

  template <Element T, size_t kCount>
  TensorRef(std::array<T, kCount>& values)  // NOLINT(google-explicit-constructor): the same
      : TensorRef(values.data(), kDataTypeOf<T>, kCount) {}

  // `count` elements of `dtype` at `data`, aligned or not: for types that C++ does not have.
  TensorRef(void* data, DataType dtype, size_t count)
      : plain_(data), dtype_(dtype), count_(count), is_plain_(true) {}

  // Memory that is only read. Where it would be written, the operation fails with kInvalid.
  template <Element T>
  static TensorRef ReadOnly(absl::Span<const T> values) {
    TensorRef ref(const_cast<T*>(values.data()), kDataTypeOf<T>, values.size());
    ref.is_read_only_ = true;
    return ref;
  }

  // False if it is nothing.
  bool valid() const { return is_plain_ || tensor_.valid(); }
  bool is_plain() const { return is_plain_; }
  bool is_read_only() const { return is_read_only_; }
  DataType dtype() const { return dtype_; }
  // In elements.
  size_t count() const { return count_; }
  size_t size_bytes() const { return count_ * SizeOf(dtype_); }
  // The plain memory; null if it is a Tensor.
  void* plain() const { return plain_; }
  // The tensor; not valid if it is plain memory.
  const Tensor& tensor() const { return tensor_; }

 private:
  void* plain_ = nullptr;
  DataType dtype_ = DataType::kNone;
  size_t count_ = 0;
  bool is_plain_ = false;
  bool is_read_only_ = false;
  Tensor tensor_;
};

class TensorList;

// What becomes a TensorList.
template <typename Range>
concept ListOfTensors =
    std::convertible_to<decltype(*std::begin(std::declval<Range&>())), TensorRef> &&
    !std::same_as<std::remove_const_t<Range>, TensorList>;

// The same, being constant or temporary: it may hold Tensors, but no plain memory, which might be
// gone too soon.
template <typename Range>
concept ConstListOfTensors = ListOfTensors<const Range>;

// Several: written {a, b}, or any range of what becomes a TensorRef, as std::vector<Tensor> or
// std::vector<std::vector<float>>. Empty where only the root's counts.
class TensorList {
 public:
  TensorList() = default;
  TensorList(std::initializer_list<TensorRef> refs)  // NOLINT(google-explicit-constructor): same
      : refs_(refs) {}
  template <ListOfTensors Range>
  TensorList(Range& range)  // NOLINT(google-explicit-constructor): as TensorRef
      : refs_(std::begin(range), std::end(range)) {}
  template <ConstListOfTensors Range>
  TensorList(const Range& range)  // NOLINT(google-explicit-constructor): as TensorRef
      : refs_(std::begin(range), std::end(range)) {}

  size_t size() const { return refs_.size(); }
  bool empty() const { return refs_.empty(); }
  const TensorRef& operator[](size_t index) const { return refs_[index]; }
  std::vector<TensorRef>::const_iterator begin() const { return refs_.begin(); }
  std::vector<TensorRef>::const_iterator end() const { return refs_.end(); }

 private:
  std::vector<TensorRef> refs_;
};

}  // namespace client
}  // namespace tutti
