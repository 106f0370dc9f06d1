#include "tests/harness/elements.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"

namespace tutti {
namespace {

uint16_t ToBfloat16(double value) {
  const auto bits = std::bit_cast<uint32_t>(static_cast<float>(value));
  if (std::isnan(value)) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

double FromBfloat16(uint16_t half) {
  return std::bit_cast<float>(static_cast<uint32_t>(half) << 16);
}

// 1 sign, 5 exponent (bias 15), 10 mantissa.
uint16_t ToFloat16(double value) {
  const auto sign = static_cast<uint16_t>(std::signbit(value) ? 0x8000 : 0);
  const double size = std::abs(value);
  if (std::isnan(value)) return 0x7e00;
  // Halfway between the largest one, 65504, and what would be the next.
  if (size >= 65520) return sign | 0x7c00;
  // The value of the last bit; that of subnormal numbers is 2^-24.
  const int exponent = size == 0 ? -14 : std::max(std::ilogb(size), -14);
  const auto steps = static_cast<uint16_t>(std::nearbyint(std::ldexp(size, 10 - exponent)));
  // For normal numbers `steps` has the implicit bit 0x400, so one less goes into the exponent. If
  // it was rounded up to 0x800, that carries into the exponent, as it should.
  return static_cast<uint16_t>(sign | (((exponent + 14) << 10) + steps));
}

double FromFloat16(uint16_t half) {
  const int exponent = (half >> 10) & 0x1f;
  const int mantissa = half & 0x3ff;
  double size = 0;
  if (exponent == 0x1f) {
    size = mantissa == 0 ? HUGE_VAL : std::nan("");
  } else {
    size = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(0x400 + mantissa, exponent - 25);
  }
  return (half & 0x8000) != 0 ? -size : size;
}

// How a type is stored.
template <typename T>
struct Plain {
  using Stored = T;
  static T To(double value) { return static_cast<T>(value); }
  static double From(T stored) { return static_cast<double>(stored); }
};
// By way of the widest type: casting a double to one that can't hold it is undefined.
template <typename T>
struct Integer : Plain<T> {
  static T To(double value) {
    return value < 0x1p63 ? static_cast<T>(static_cast<int64_t>(value))
                          : static_cast<T>(static_cast<uint64_t>(value));
  }
};
struct Bool {
  using Stored = uint8_t;
  static uint8_t To(double value) { return value == 0 ? 0 : 1; }
  static double From(uint8_t stored) { return stored; }
};
struct Bfloat16 {
  using Stored = uint16_t;
  static uint16_t To(double value) { return ToBfloat16(value); }
  static double From(uint16_t stored) { return FromBfloat16(stored); }
};
struct Float16 {
  using Stored = uint16_t;
  static uint16_t To(double value) { return ToFloat16(value); }
  static double From(uint16_t stored) { return FromFloat16(stored); }
};

// Calls `f` with the codec of the type.
template <typename F>
auto WithCodec(DataType dtype, const F& f) {
  switch (dtype) {
    case DataType::kBool:
      return f(Bool());
    case DataType::kUint8:
      return f(Integer<uint8_t>());
    case DataType::kInt8:
      return f(Integer<int8_t>());
    case DataType::kInt32:
      return f(Integer<int32_t>());
    case DataType::kUint32:
      return f(Integer<uint32_t>());
    case DataType::kInt64:
      return f(Integer<int64_t>());
    case DataType::kUint64:
      return f(Integer<uint64_t>());
    case DataType::kFloat16:
      return f(Float16());
    case DataType::kBfloat16:
      return f(Bfloat16());
    case DataType::kFloat32:
      return f(Plain<float>());
    case DataType::kFloat64:
      return f(Plain<double>());
    case DataType::kNone:
      break;
  }
  TUTTI_CHECK(false);
}

template <typename Codec>
typename Codec::Stored Load(const std::byte* data, size_t index) {
  typename Codec::Stored stored;
  std::memcpy(&stored, data + index * sizeof(stored), sizeof(stored));
  return stored;
}

template <typename Codec>
void Store(std::byte* data, size_t index, typename Codec::Stored stored) {
  std::memcpy(data + index * sizeof(stored), &stored, sizeof(stored));
}

// One period of the pattern, as stored.
template <typename Codec>
std::vector<typename Codec::Stored> Period(const Pattern& pattern, size_t count) {
  const size_t period = std::clamp<size_t>(count, 1, std::max<uint64_t>(pattern.period, 1));
  std::vector<typename Codec::Stored> values(period);
  for (size_t i = 0; i < period; ++i) {
    values[i] = Codec::To(pattern.value + pattern.step * static_cast<double>(i));
  }
  return values;
}

}  // namespace

void Fill(const Elements& elements, const Pattern& pattern) {
  WithCodec(elements.dtype, [&](auto codec) {
    using Codec = decltype(codec);
    const auto values = Period<Codec>(pattern, elements.count);
    size_t place = 0;
    for (size_t i = 0; i < elements.count; ++i) {
      Store<Codec>(elements.data, i, values[place]);
      if (++place == values.size()) place = 0;
    }
  });
}

size_t FirstDifference(const Elements& elements, const Pattern& pattern) {
  return WithCodec(elements.dtype, [&](auto codec) {
    using Codec = decltype(codec);
    const auto values = Period<Codec>(pattern, elements.count);
    size_t place = 0;
    for (size_t i = 0; i < elements.count; ++i) {
      // As numbers: -0 equals 0.
      if (Codec::From(Load<Codec>(elements.data, i)) != Codec::From(values[place])) return i;
      if (++place == values.size()) place = 0;
    }
    return elements.count;
  });
}

std::vector<double> Values(const Elements& elements) {
  return WithCodec(elements.dtype, [&](auto codec) {
    using Codec = decltype(codec);
    std::vector<double> values(elements.count);
    for (size_t i = 0; i < elements.count; ++i) {
      values[i] = Codec::From(Load<Codec>(elements.data, i));
    }
    return values;
  });
}

void SetValues(const Elements& elements, const std::vector<double>& values) {
  WithCodec(elements.dtype, [&](auto codec) {
    using Codec = decltype(codec);
    for (size_t i = 0; i < std::min(elements.count, values.size()); ++i) {
      Store<Codec>(elements.data, i, Codec::To(values[i]));
    }
  });
}

}  // namespace tutti
