#include "tests/harness/elements.h"

#include <algorithm>
#include <cstring>

#include "backends/small_float.h"
#include "base/check.h"

namespace tutti {
namespace {

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
template <typename Small>
struct Half {
  using Stored = uint16_t;
  static uint16_t To(double value) { return Small::Encode(value); }
  static double From(uint16_t stored) { return Small::Decode(stored); }
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
      return f(Half<conformance::Float16>());
    case DataType::kBfloat16:
      return f(Half<conformance::Bfloat16>());
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
