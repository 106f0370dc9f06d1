// A tensor in memory that this process shares with the daemon: operations on it copy nothing.
//
// One dimension, contiguous, elements of one type. A handle: copies name the same memory, which
// lives until the last of them is gone and the last operation on it has completed, also beyond its
// client. Handles are as thread-safe as an int; the elements are the caller's to synchronise, and
// not to be touched while an operation uses them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/types/span.h"
#include "base/check.h"
#include "base/types.h"

namespace tutti {

// The classes of the client are in a namespace of their own, since the daemon's core has a Work and
// a Group too and both may be in one program. Being inline, it need not be named.
inline namespace client {

class Block;

// The DataType of a C++ type.
template <typename T>
inline constexpr DataType kDataTypeOf = DataType::kNone;
template <>
inline constexpr DataType kDataTypeOf<bool> = DataType::kBool;
template <>
inline constexpr DataType kDataTypeOf<uint8_t> = DataType::kUint8;
template <>
inline constexpr DataType kDataTypeOf<int8_t> = DataType::kInt8;
template <>
inline constexpr DataType kDataTypeOf<int32_t> = DataType::kInt32;
template <>
inline constexpr DataType kDataTypeOf<uint32_t> = DataType::kUint32;
template <>
inline constexpr DataType kDataTypeOf<int64_t> = DataType::kInt64;
template <>
inline constexpr DataType kDataTypeOf<uint64_t> = DataType::kUint64;
template <>
inline constexpr DataType kDataTypeOf<float> = DataType::kFloat32;
template <>
inline constexpr DataType kDataTypeOf<double> = DataType::kFloat64;

class Tensor {
 public:
  // No tensor; operations on it fail.
  Tensor() = default;
  // Clients make tensors (Client::NewTensor).
  Tensor(std::shared_ptr<const Block> block, std::byte* bytes, DataType dtype, size_t count)
      : block_(std::move(block)), bytes_(bytes), dtype_(dtype), count_(count) {}

  bool valid() const { return block_ != nullptr; }
  DataType dtype() const { return dtype_; }
  // In elements.
  size_t count() const { return count_; }
  size_t size_bytes() const { return count_ * SizeOf(dtype_); }

  // The elements. REQUIRES: T is the C++ type of dtype().
  template <typename T>
  absl::Span<T> data() const {
    TUTTI_CHECK(kDataTypeOf<T> == dtype_);
    return absl::MakeSpan(reinterpret_cast<T*>(bytes_), count_);
  }
  // The same as bytes, for types that C++ does not have.
  std::byte* bytes() const { return bytes_; }

  // A view of elements `first` to `first + count - 1`: the same memory, which it keeps alive too.
  // What one tensor holds for each rank is a list of slices. REQUIRES: they exist.
  Tensor Slice(size_t first, size_t count) const {
    TUTTI_CHECK(first <= count_ && count <= count_ - first);
    return Tensor(block_, bytes_ + first * SizeOf(dtype_), dtype_, count);
  }

  // For the client's own files.
  const Block* block() const { return block_.get(); }

 private:
  std::shared_ptr<const Block> block_;
  std::byte* bytes_ = nullptr;
  DataType dtype_ = DataType::kNone;
  size_t count_ = 0;
};

}  // namespace client
}  // namespace tutti
