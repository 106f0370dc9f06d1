// The widest vectors of the instruction set that this is compiled for, in the notation that both
// GCC and Clang have: +, *, <, ?: work on all lanes, and a reinterpret_cast changes no bit.
//
// Included by kernel_templates.h only, whose rules hold here too. Pure.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#define TUTTI_INLINE __attribute__((always_inline)) inline
#if defined(__clang__)  // compiles sanitized builds only
#define TUTTI_UNROLL
#else
#define TUTTI_UNROLL _Pragma("GCC unroll 16")
#endif

namespace tutti {
namespace {

#if defined(__AVX512BW__)
constexpr size_t kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr size_t kVectorBytes = 32;
#else
constexpr size_t kVectorBytes = 16;
#endif

template <typename T>
struct VectorOf {
  typedef T Type __attribute__((vector_size(kVectorBytes)));
  // The same at any address, over bytes that are other things to other code.
  typedef T Loose __attribute__((vector_size(kVectorBytes), aligned(1), may_alias));
};

// What results are stored as.
using Raw = VectorOf<uint8_t>::Type;

template <bool, typename A, typename>
struct Select {
  using Type = A;
};
template <typename A, typename B>
struct Select<false, A, B> {
  using Type = B;
};

template <typename T>
TUTTI_INLINE typename VectorOf<T>::Type LoadVector(const std::byte* from) {
  return *reinterpret_cast<const typename VectorOf<T>::Loose*>(from);
}

TUTTI_INLINE void StoreVector(std::byte* to, Raw value) {
  *reinterpret_cast<VectorOf<uint8_t>::Loose*>(to) = value;
}

// Past the caches. `to` is a multiple of kVectorBytes.
TUTTI_INLINE void StreamVector(std::byte* to, Raw value) {
#if defined(__AVX512BW__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), reinterpret_cast<__m512i>(value));
#elif defined(__AVX2__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(value));
#else
  _mm_stream_si128(reinterpret_cast<__m128i*>(to), reinterpret_cast<__m128i>(value));
#endif
}

}  // namespace
}  // namespace tutti
