// float16, bfloat16 and the like, by their definition: a sign, `kExponentBits` of exponent,
// `kFractionBits` of fraction, in 16 bits.
//
// For tests: slow, and nothing like the kernels. Pure and thread-safe.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace tutti::conformance {

template <int kExponentBits, int kFractionBits>
struct SmallFloat {
  static constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
  static constexpr int kOne = 1 << kFractionBits;
  static constexpr uint16_t kInfinity = ((1 << kExponentBits) - 1) << kFractionBits;
  static constexpr uint16_t kSign = 0x8000;

  static double Decode(uint16_t bits) {
    const int exponent = (bits & kInfinity) >> kFractionBits;
    const int fraction = bits & (kOne - 1);
    double magnitude = 0;
    if ((bits & kInfinity) == kInfinity) {
      magnitude = fraction == 0 ? std::numeric_limits<double>::infinity()
                                : std::numeric_limits<double>::quiet_NaN();
    } else if (exponent == 0) {
      magnitude = std::ldexp(fraction, 1 - kBias - kFractionBits);
    } else {
      magnitude = std::ldexp(kOne + fraction, exponent - kBias - kFractionBits);
    }
    return (bits & kSign) != 0 ? -magnitude : magnitude;
  }

  // The nearest, of two the even one.
  static uint16_t Encode(double value) {
    if (std::isnan(value)) return kInfinity | (kOne >> 1);
    const uint16_t sign = std::signbit(value) ? kSign : 0;
    const double magnitude = std::abs(value);
    if (std::isinf(value)) return sign | kInfinity;
    if (magnitude == 0) return sign;
    const int exponent = std::max(std::ilogb(magnitude), 1 - kBias);
    // In units of the last place: kOne and more are normal, and 2 * kOne is one exponent more, as
    // it is in the encoding.
    const double steps = std::nearbyint(std::ldexp(magnitude, kFractionBits - exponent));
    const int encoded = (exponent + kBias - 1) * kOne + static_cast<int>(steps);
    return sign | static_cast<uint16_t>(std::min<int>(encoded, kInfinity));
  }
};

using Float16 = SmallFloat<5, 10>;
using Bfloat16 = SmallFloat<8, 7>;

}  // namespace tutti::conformance
