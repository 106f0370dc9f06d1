#include "backends/local/reduce_kernels.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace tutti {
namespace {

// A result is built in a block that stays in the L1 cache (32 KiB or more everywhere), beside the
// parts of at most four inputs that stream past it, and goes from there to all outputs.
// Accumulating in the block rather than in an output is what makes aliasing harmless: the loops
// write nothing but the block, so __restrict is true, and they vectorize also when they work in
// place.
constexpr size_t kBlockBytes = 8192;

// Small enough to leave room for the outputs' lines, large enough for memcpy to reach its speed.
constexpr size_t kCopyBlockBytes = 16384;

// Signed overflow is undefined, so integers are added as unsigned: that wraps.
template <typename T, bool = std::is_integral_v<T>>
struct Arithmetic {
  using Type = T;
};
template <typename T>
struct Arithmetic<T, true> {
  using Type = std::make_unsigned_t<T>;
};

template <ReduceOp op, typename T>
inline T Combine(T a, T b) {
  using A = typename Arithmetic<T>::Type;
  if constexpr (op == ReduceOp::kSum || op == ReduceOp::kAvg) {
    return static_cast<T>(static_cast<A>(a) + static_cast<A>(b));
  } else if constexpr (op == ReduceOp::kProduct) {
    return static_cast<T>(static_cast<A>(a) * static_cast<A>(b));
  } else if constexpr (std::is_floating_point_v<T>) {
    // A comparison with NaN is false: so the first takes `b` if that is NaN, the second `a`. Two
    // selections, for without a branch the loop vectorizes.
    const T chosen = (op == ReduceOp::kMin ? a <= b : a >= b) ? a : b;
    return a != a ? a : chosen;
  } else {
    if constexpr (op == ReduceOp::kMin) return a < b ? a : b;
    if constexpr (op == ReduceOp::kMax) return a > b ? a : b;
  }
}

template <ReduceOp op, typename T, typename... Ts>
inline T Combine(T a, T b, Ts... more) {
  return Combine<op>(Combine<op>(a, b), more...);
}

// `block` becomes the combination of the inputs, or of itself and the inputs.
template <ReduceOp op, typename T, typename... Inputs>
void Begin(T* __restrict block, size_t count, const Inputs*... inputs) {
  if constexpr (sizeof...(Inputs) == 1) {
    std::memcpy(block, (inputs, ...), count * sizeof(T));
  } else {
    for (size_t i = 0; i < count; ++i) block[i] = Combine<op>(inputs[i]...);
  }
}
template <ReduceOp op, typename T, typename... Inputs>
void Add(T* __restrict block, size_t count, const Inputs*... inputs) {
  for (size_t i = 0; i < count; ++i) block[i] = Combine<op>(block[i], inputs[i]...);
}

// Four inputs at a time: that many streams every processor prefetches, and the block is read and
// written only once for four.
template <ReduceOp op, typename T>
void Fold(T* __restrict block, const std::vector<const std::byte*>& inputs, size_t first,
          size_t count) {
  const auto in = [&](size_t i) { return reinterpret_cast<const T*>(inputs[i]) + first; };
  const size_t size = inputs.size();
  switch (std::min<size_t>(size, 4)) {
    case 1:
      Begin<op>(block, count, in(0));
      break;
    case 2:
      Begin<op>(block, count, in(0), in(1));
      break;
    case 3:
      Begin<op>(block, count, in(0), in(1), in(2));
      break;
    default:
      Begin<op>(block, count, in(0), in(1), in(2), in(3));
  }
  for (size_t i = 4; i < size; i += 4) {
    switch (std::min<size_t>(size - i, 4)) {
      case 1:
        Add<op>(block, count, in(i));
        break;
      case 2:
        Add<op>(block, count, in(i), in(i + 1));
        break;
      case 3:
        Add<op>(block, count, in(i), in(i + 1), in(i + 2));
        break;
      default:
        Add<op>(block, count, in(i), in(i + 1), in(i + 2), in(i + 3));
    }
  }
}

template <typename T>
void Divide(T* block, size_t count, uint32_t divisor) {
  if constexpr (std::is_floating_point_v<T>) {
    // A division, not a product with the reciprocal, whose rounding would show in the result.
    for (size_t i = 0; i < count; ++i) block[i] /= static_cast<T>(divisor);
  } else {
    // In 64 bits, which hold every divisor as a positive number.
    for (size_t i = 0; i < count; ++i) {
      block[i] = static_cast<T>(static_cast<int64_t>(block[i]) / static_cast<int64_t>(divisor));
    }
  }
}

template <ReduceOp op, typename T>
void Reduce(const ReduceBuffers& buffers, size_t first, size_t count) {
  constexpr size_t kBlockElements = kBlockBytes / sizeof(T);
  alignas(64) T block[kBlockElements];
  for (size_t done = 0; done < count; done += kBlockElements) {
    const size_t elements = std::min(kBlockElements, count - done);
    Fold<op, T>(block, buffers.inputs, first + done, elements);
    if constexpr (op == ReduceOp::kAvg) Divide(block, elements, buffers.divisor);
    for (std::byte* const output : buffers.outputs) {
      std::memcpy(output + (first + done) * sizeof(T), block, elements * sizeof(T));
    }
  }
}

template <typename T>
ReduceKernel KernelOf(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return &Reduce<ReduceOp::kSum, T>;
    case ReduceOp::kProduct:
      return &Reduce<ReduceOp::kProduct, T>;
    case ReduceOp::kMin:
      return &Reduce<ReduceOp::kMin, T>;
    case ReduceOp::kMax:
      return &Reduce<ReduceOp::kMax, T>;
    case ReduceOp::kAvg:
      return &Reduce<ReduceOp::kAvg, T>;
    case ReduceOp::kNone:
      break;
  }
  return nullptr;
}

}  // namespace

ReduceKernel FindReduceKernel(DataType dtype, ReduceOp op) {
  switch (dtype) {
    case DataType::kFloat32:
      return KernelOf<float>(op);
    case DataType::kFloat64:
      return KernelOf<double>(op);
    case DataType::kInt32:
      return KernelOf<int32_t>(op);
    case DataType::kInt64:
      return KernelOf<int64_t>(op);
    default:
      return nullptr;
  }
}

void CopyToAll(const std::byte* source, const std::vector<std::byte*>& outputs, size_t first,
               size_t count) {
  for (size_t done = 0; done < count; done += kCopyBlockBytes) {
    const size_t bytes = std::min(kCopyBlockBytes, count - done);
    for (std::byte* const output : outputs) {
      std::memcpy(output + first + done, source + first + done, bytes);
    }
  }
}

}  // namespace tutti
