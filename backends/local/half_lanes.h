// float16 and bfloat16 as vectors: to float, which is exact, and back, to nearest even.
//
// Included by kernel_templates.h only, whose rules hold here too. Pure.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/local/vectors.h"

namespace tutti {
namespace {

using Floats = VectorOf<float>::Type;
using Words = VectorOf<uint32_t>::Type;
typedef uint16_t Halves __attribute__((vector_size(kVectorBytes / 2)));

TUTTI_INLINE Halves LoadHalves(const std::byte* from) {
  typedef uint16_t Loose __attribute__((vector_size(kVectorBytes / 2), aligned(1), may_alias));
  return *reinterpret_cast<const Loose*>(from);
}

TUTTI_INLINE Words Bits(Floats value) { return reinterpret_cast<Words>(value); }
TUTTI_INLINE Floats FromBits(Words bits) { return reinterpret_cast<Floats>(bits); }

// The upper half of a float32.
struct Bfloat16 {
  static TUTTI_INLINE Floats Widen(Halves halves) {
    return FromBits(__builtin_convertvector(halves, Words) << 16);
  }

  // REQUIRES: a NaN is the quiet one without payload (FinishFloats).
  static TUTTI_INLINE Halves Narrow(Floats value) {
    // Just under a half, or a half if what stays is odd: carries exactly if it is to be rounded up,
    // and from the largest finite number into infinity. Of NaN, nothing is cut off.
    const Words bits = Bits(value);
    const Words rounded = bits + 0x7fff + ((bits >> 16) & 1);
    return __builtin_convertvector((value != value ? bits : rounded) >> 16, Halves);
  }
};

// 1 bit sign, 5 bits exponent (bias 15), 10 bits fraction.
struct Float16 {
#if defined(__AVX512BW__)
  // The unmasked intrinsics read a register that is not initialised, of which GCC 12 warns.
  static constexpr __mmask16 kAll = 0xffff;
  static TUTTI_INLINE Floats Widen(Halves halves) {
    return reinterpret_cast<Floats>(_mm512_maskz_cvtph_ps(kAll, reinterpret_cast<__m256i>(halves)));
  }
  static TUTTI_INLINE Halves Narrow(Floats value) {
    return reinterpret_cast<Halves>(
        _mm512_maskz_cvtps_ph(kAll, reinterpret_cast<__m512>(value), _MM_FROUND_TO_NEAREST_INT));
  }
#elif defined(__F16C__)
  static TUTTI_INLINE Floats Widen(Halves halves) {
    return reinterpret_cast<Floats>(_mm256_cvtph_ps(reinterpret_cast<__m128i>(halves)));
  }
  static TUTTI_INLINE Halves Narrow(Floats value) {
    return reinterpret_cast<Halves>(
        _mm256_cvtps_ph(reinterpret_cast<__m256>(value), _MM_FROUND_TO_NEAREST_INT));
  }
#else
  static TUTTI_INLINE Floats Widen(Halves halves) {
    const Words bits = __builtin_convertvector(halves, Words);
    const Words magnitude = bits & 0x7fff;
    // As a float, the 15 bits shifted into place are the number with the wrong bias, also if it is
    // subnormal. Multiplied by 2^(127 - 15) they have the right one.
    const Words finite = Bits(FromBits(magnitude << 13) * 0x1p112f);
    const Words quiet = magnitude > 0x7c00 ? Words{} + 0x400000 : Words{};
    const Words special = (magnitude << 13) | 0x7f800000 | quiet;
    return FromBits((magnitude >= 0x7c00 ? special : finite) | ((bits & 0x8000) << 16));
  }

  // REQUIRES: a NaN is the quiet one without payload (FinishFloats).
  static TUTTI_INLINE Halves Narrow(Floats value) {
    const Words sign = Bits(value) & 0x80000000;
    const Words bits = Bits(value) ^ sign;
    // As for Bfloat16, with the bias changed in the same addition. 65520 and more carry into
    // infinity; from 2^16 on, where the exponent has no room, the result is infinity or NaN anyway.
    const Words normal = (bits - ((127 - 15) << 23) + 0xfff + ((bits >> 13) & 1)) >> 13;
    // Under 2^-14 the last bit is worth 2^-24, as the last bit of floats from 0.5 to 1: adding 0.5
    // makes the processor round there.
    const Words subnormal = Bits(FromBits(bits) + 0.5f) - Bits(Floats{} + 0.5f);
    const Words special = bits > 0x7f800000 ? Words{} + 0x7e00 : Words{} + 0x7c00;
    const Words finite = bits < ((127 - 14) << 23) ? subnormal : normal;
    const Words magnitude = bits >= ((127 + 16) << 23) ? special : finite;
    return __builtin_convertvector(magnitude | (sign >> 16), Halves);
  }
#endif
};

}  // namespace
}  // namespace tutti
