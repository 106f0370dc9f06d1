// Vectors of elements: how the lanes of each type are loaded, combined, and turned into results.
//
// Included by kernel_templates.h only, whose rules hold here too. Pure.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/local/half_lanes.h"
#include "backends/local/vectors.h"
#include "base/types.h"

namespace tutti {
namespace {

// Signed overflow is undefined, so integers are added and multiplied as unsigned: that wraps.
template <typename T>
struct Wrapping {
  using Type = T;
};
template <>
struct Wrapping<int8_t> {
  using Type = uint8_t;
};
template <>
struct Wrapping<int32_t> {
  using Type = uint32_t;
};
template <>
struct Wrapping<int64_t> {
  using Type = uint64_t;
};

constexpr bool IsMinOrMax(ReduceOp op) { return op == ReduceOp::kMin || op == ReduceOp::kMax; }

// A comparison with NaN is false: so the first selection takes `b` if that is NaN, the second `a`.
template <ReduceOp op, typename V>
TUTTI_INLINE V CombineFloats(V a, V b) {
  if constexpr (op == ReduceOp::kProduct) {
    return a * b;
  } else if constexpr (op == ReduceOp::kSum || op == ReduceOp::kAvg) {
    return a + b;
  } else {
    const V chosen = (op == ReduceOp::kMin ? a <= b : a >= b) ? a : b;
    return a != a ? a : chosen;
  }
}

// Which NaN comes out of a sum depends on the order in which the compiler hands the operands to the
// processor, so all become the same one. kAvg divides, rather than to multiply by the reciprocal,
// whose rounding would show.
template <ReduceOp op, typename T, typename V>
TUTTI_INLINE V FinishFloats(V value, uint32_t divisor) {
  if constexpr (op == ReduceOp::kAvg) value /= static_cast<T>(divisor);
  const V nan = V{} + static_cast<T>(__builtin_nan(""));
  return value != value ? nan : value;
}

// The lanes of one vector of T, and how `op` works on them. All such classes have:
//   Vector           what is accumulated
//   kElementBytes    of an element in memory;  kLanes: elements of a Vector
//   Load, Combine    from memory; in the order of the arguments
//   Finish           turns `count` accumulated vectors into elements at `to`
template <typename T, ReduceOp op>
struct FloatLanes {
  using Vector = typename VectorOf<T>::Type;
  static constexpr size_t kElementBytes = sizeof(T);
  static constexpr size_t kLanes = kVectorBytes / sizeof(T);

  static TUTTI_INLINE Vector Load(const std::byte* from) { return LoadVector<T>(from); }
  static TUTTI_INLINE Vector Combine(Vector a, Vector b) { return CombineFloats<op>(a, b); }
  template <size_t count>
  static TUTTI_INLINE void Finish(const Vector (&from)[count], uint32_t divisor, Raw* to) {
    TUTTI_UNROLL
    for (size_t i = 0; i < count; ++i) {
      to[i] = reinterpret_cast<Raw>(FinishFloats<op, T>(from[i], divisor));
    }
  }
};

// Divides with truncation. By way of floats where that is exact, which it is if they hold more bits
// than dividend and divisor: then no quotient is rounded up to an integer. Integers of 64 bits are
// divided one by one, there being no instruction for more.
template <typename T>
TUTTI_INLINE void DivideAll(T* values, size_t count, uint32_t divisor) {
  if constexpr (sizeof(T) == 8) {
    // The divisor as a T: it is positive in 64 bits.
    for (size_t i = 0; i < count; ++i) values[i] /= static_cast<T>(divisor);
  } else {
    using Wide = typename Select<sizeof(T) == 1, float, double>::Type;
    for (size_t i = 0; i < count; ++i) {
      values[i] = static_cast<T>(static_cast<Wide>(values[i]) / static_cast<Wide>(divisor));
    }
  }
}

template <typename T, ReduceOp op>
struct IntegerLanes {
  using Lane = typename Wrapping<T>::Type;
  // For order the sign counts.
  using Vector = typename VectorOf<typename Select<IsMinOrMax(op), T, Lane>::Type>::Type;
  static constexpr size_t kElementBytes = sizeof(T);
  static constexpr size_t kLanes = kVectorBytes / sizeof(T);

  static TUTTI_INLINE Vector Load(const std::byte* from) {
    return reinterpret_cast<Vector>(LoadVector<T>(from));
  }
  static TUTTI_INLINE Vector Combine(Vector a, Vector b) {
    if constexpr (op == ReduceOp::kSum || op == ReduceOp::kAvg) return a + b;
    if constexpr (op == ReduceOp::kProduct) return a * b;
    if constexpr (op == ReduceOp::kMin) return a < b ? a : b;
    if constexpr (op == ReduceOp::kMax) return a > b ? a : b;
  }
  template <size_t count>
  static TUTTI_INLINE void Finish(const Vector (&from)[count], uint32_t divisor, Raw* to) {
    TUTTI_UNROLL
    for (size_t i = 0; i < count; ++i) to[i] = reinterpret_cast<Raw>(from[i]);
    if constexpr (op == ReduceOp::kAvg) {
      alignas(kVectorBytes) T values[count * kLanes];
      __builtin_memcpy(values, to, sizeof(values));
      DivideAll(values, count * kLanes, divisor);
      __builtin_memcpy(to, values, sizeof(values));
    }
  }
};

// Accumulates all ones for true and zeros for false.
template <ReduceOp op>
struct BoolLanes {
  using Vector = typename VectorOf<int8_t>::Type;
  static constexpr size_t kElementBytes = 1;
  static constexpr size_t kLanes = kVectorBytes;

  static TUTTI_INLINE Vector Load(const std::byte* from) { return LoadVector<int8_t>(from) != 0; }
  static TUTTI_INLINE Vector Combine(Vector a, Vector b) {
    return op == ReduceOp::kSum || op == ReduceOp::kMax ? a | b : a & b;
  }
  template <size_t count>
  static TUTTI_INLINE void Finish(const Vector (&from)[count], uint32_t /*divisor*/, Raw* to) {
    TUTTI_UNROLL
    for (size_t i = 0; i < count; ++i) to[i] = reinterpret_cast<Raw>(from[i] & 1);
  }
};

// float16 or bfloat16, accumulated as float. Half a vector of elements makes a vector of floats.
template <typename Format, ReduceOp op>
struct HalfLanes {
  using Vector = Floats;
  static constexpr size_t kElementBytes = 2;
  static constexpr size_t kLanes = kVectorBytes / sizeof(float);

  static TUTTI_INLINE Vector Load(const std::byte* from) { return Format::Widen(LoadHalves(from)); }
  static TUTTI_INLINE Vector Combine(Vector a, Vector b) { return CombineFloats<op>(a, b); }
  template <size_t count>
  static TUTTI_INLINE void Finish(const Vector (&from)[count], uint32_t divisor, Raw* to) {
    Halves narrow[count];
    TUTTI_UNROLL
    for (size_t i = 0; i < count; ++i) {
      narrow[i] = Format::Narrow(FinishFloats<op, float>(from[i], divisor));
    }
    __builtin_memcpy(to, narrow, sizeof(narrow));
  }
};

}  // namespace
}  // namespace tutti
