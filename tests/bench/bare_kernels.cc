// Compiled with -O3 -march=native: this runs where it was built, and nowhere else.
#include "tests/bench/bare_kernels.h"

#include <algorithm>
#include <cstring>

namespace tutti::bench {
namespace {

// What one instruction of AVX2, and of AVX-512, adds. The compiler makes the best of what is wider
// than the machine's registers.
using Lanes256 = float __attribute__((vector_size(32)));
using Lanes512 = float __attribute__((vector_size(64)));

template <typename Lanes>
Lanes Load(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}

template <typename Lanes>
void Store(float* to, Lanes lanes) {
  std::memcpy(to, &lanes, sizeof(lanes));
}

template <size_t kBuffers>
void SumElements(float* const* buffers, size_t begin, size_t end) {
  for (size_t i = begin; i < end; ++i) {
    float sum = 0;
    for (size_t b = 0; b < kBuffers; ++b) sum += buffers[b][i];
    for (size_t b = 0; b < kBuffers; ++b) buffers[b][i] = sum;
  }
}

// All buffers side by side: the sum stays in registers. `kUnroll` of them go together, a cache line
// of each buffer at least. With `kAhead`, lines that far (in elements) ahead are asked for, to be
// written.
template <size_t kBuffers, typename Lanes, size_t kUnroll, size_t kAhead>
void Direct(float* const* buffers, size_t, size_t begin, size_t end) {
  constexpr size_t kLanes = sizeof(Lanes) / sizeof(float);
  constexpr size_t kStep = kLanes * kUnroll;
  constexpr size_t kLine = 64 / sizeof(float);
  float* local[kBuffers];
  std::copy_n(buffers, kBuffers, local);
  size_t i = begin;
  for (; i + kStep <= end; i += kStep) {
    if constexpr (kAhead > 0) {
      for (size_t b = 0; b < kBuffers; ++b) {
        for (size_t line = 0; line < kStep; line += kLine) {
          __builtin_prefetch(local[b] + i + kAhead + line, 1);
        }
      }
    }
    Lanes sums[kUnroll];
    for (size_t u = 0; u < kUnroll; ++u) sums[u] = Load<Lanes>(local[0] + i + u * kLanes);
    for (size_t b = 1; b < kBuffers; ++b) {
      for (size_t u = 0; u < kUnroll; ++u) sums[u] += Load<Lanes>(local[b] + i + u * kLanes);
    }
    for (size_t b = 0; b < kBuffers; ++b) {
      for (size_t u = 0; u < kUnroll; ++u) Store(local[b] + i + u * kLanes, sums[u]);
    }
  }
  SumElements<kBuffers>(local, i, end);
}

// Buffer by buffer over a block that stays in the first-level cache: few streams from memory at a
// time, which the prefetchers follow more easily than eight.
template <size_t kBuffers, typename Lanes, size_t kBlock>
void Blocked(float* const* buffers, size_t, size_t begin, size_t end) {
  constexpr size_t kLanes = sizeof(Lanes) / sizeof(float);
  alignas(64) float sums[kBlock];
  size_t block = begin;
  for (; block + kBlock <= end; block += kBlock) {
    std::memcpy(sums, buffers[0] + block, sizeof(sums));
    for (size_t b = 1; b < kBuffers; ++b) {
      for (size_t i = 0; i < kBlock; i += kLanes) {
        Store(sums + i, Load<Lanes>(sums + i) + Load<Lanes>(buffers[b] + block + i));
      }
    }
    for (size_t b = 0; b < kBuffers; ++b) {
      for (size_t i = 0; i < kBlock; i += kLanes) {
        Store(buffers[b] + block + i, Load<Lanes>(sums + i));
      }
    }
  }
  SumElements<kBuffers>(buffers, block, end);
}

template <size_t kBuffers>
std::vector<Variant> Variants() {
  return {
      {"direct, 32-byte lanes", &Direct<kBuffers, Lanes256, 2, 0>},
      {"direct, 64-byte lanes", &Direct<kBuffers, Lanes512, 1, 0>},
      {"direct, 64-byte lanes x 4", &Direct<kBuffers, Lanes512, 4, 0>},
      {"direct, 64-byte lanes, prefetch 1 KiB", &Direct<kBuffers, Lanes512, 1, 256>},
      {"direct, 64-byte lanes x 4, prefetch 2 KiB", &Direct<kBuffers, Lanes512, 4, 512>},
      {"blocks of 2 KiB", &Blocked<kBuffers, Lanes512, 512>},
      {"blocks of 4 KiB", &Blocked<kBuffers, Lanes512, 1024>},
      {"blocks of 8 KiB", &Blocked<kBuffers, Lanes512, 2048>},
  };
}

}  // namespace

std::vector<Variant> VariantsFor(size_t buffers) {
  switch (buffers) {
    case 2:
      return Variants<2>();
    case 4:
      return Variants<4>();
    case 8:
      return Variants<8>();
    default:
      return {};
  }
}

}  // namespace tutti::bench
