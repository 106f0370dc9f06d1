// The kernels' source, compiled by kernels_sse2.cc, kernels_avx2.cc and kernels_avx512.cc with the
// flags of one instruction set each.
//
// Nothing but the table may leave those files: were a function with external linkage compiled in
// two of them, the linker would keep one, perhaps the one that an older processor cannot run. So
// everything here is in an unnamed namespace, and nothing of the standard library is used that is
// more than a type. (kernels_symbols_test looks.)
//
// How ranges are walked was measured (docs/adr/0009-kernels.md): registers hold one tile of the
// result, 128 or 256 bytes, while the inputs go by. With more than kNarrow streams a tile from each
// in turn is too little for the processor to see the streams, so a block of 4 KiB is accumulated in
// the L1 cache, four inputs at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/local/kernels.h"
#include "backends/local/lanes.h"

namespace tutti {
namespace {

// Vectors in a tile. Accumulators, the vector being loaded and a constant or two fit in the 16
// registers (32 for AVX-512).
constexpr size_t kTile = kVectorBytes == 64 ? 4 : 8;

constexpr size_t kNarrow = 8;
constexpr size_t kGroup = 4;
constexpr size_t kBlockBytes = 4096;

template <typename Lanes>
struct TileOf {
  using Vector = typename Lanes::Vector;
  static constexpr size_t kVectorMemory = Lanes::kLanes * Lanes::kElementBytes;
  static constexpr size_t kBytes = kTile * kVectorMemory;
  static constexpr size_t kRaws = kBytes / kVectorBytes;
};

template <typename Lanes>
TUTTI_INLINE void LoadTile(const std::byte* from, typename Lanes::Vector (&tile)[kTile]) {
  TUTTI_UNROLL
  for (size_t i = 0; i < kTile; ++i) {
    tile[i] = Lanes::Load(from + i * TileOf<Lanes>::kVectorMemory);
  }
}

// `tile` becomes the combination of itself and the inputs at `offset` bytes.
template <typename Lanes>
TUTTI_INLINE void Fold(const std::byte* const* inputs, size_t input_count, size_t offset,
                       typename Lanes::Vector (&tile)[kTile]) {
  for (size_t k = 0; k < input_count; ++k) {
    const std::byte* const from = inputs[k] + offset;
    TUTTI_UNROLL
    for (size_t i = 0; i < kTile; ++i) {
      tile[i] = Lanes::Combine(tile[i], Lanes::Load(from + i * TileOf<Lanes>::kVectorMemory));
    }
  }
}

// Writes `raws` vectors to all outputs at `offset` bytes.
TUTTI_INLINE void StoreAll(const Reduction& range, size_t offset, const Raw* from, size_t raws) {
  const size_t cached = range.output_count - range.streamed;
  for (size_t k = 0; k < cached; ++k) {
    std::byte* const to = range.outputs[k] + offset;
    TUTTI_UNROLL
    for (size_t i = 0; i < raws; ++i) StoreVector(to + i * kVectorBytes, from[i]);
  }
  for (size_t k = cached; k < range.output_count; ++k) {
    std::byte* const to = range.outputs[k] + offset;
    TUTTI_UNROLL
    for (size_t i = 0; i < raws; ++i) StreamVector(to + i * kVectorBytes, from[i]);
  }
}

// Whole tiles from `offset` to `end` bytes.
template <typename Lanes>
TUTTI_INLINE void ReduceTiles(const Reduction& range, size_t offset, size_t end) {
  constexpr size_t kRaws = TileOf<Lanes>::kRaws;
  for (; offset < end; offset += TileOf<Lanes>::kBytes) {
    typename Lanes::Vector tile[kTile];
    LoadTile<Lanes>(range.inputs[0] + offset, tile);
    Fold<Lanes>(range.inputs + 1, range.input_count - 1, offset, tile);
    Raw result[kRaws];
    Lanes::Finish(tile, range.divisor, result);
    StoreAll(range, offset, result, kRaws);
  }
}

// The same for many streams.
template <typename Lanes>
TUTTI_INLINE void ReduceBlocks(const Reduction& range, size_t offset, size_t end) {
  using Tile = TileOf<Lanes>;
  constexpr size_t kTiles = kBlockBytes / Tile::kBytes;
  typename Lanes::Vector block[kTiles][kTile];
  Raw result[kTiles * Tile::kRaws];
  while (offset < end) {
    const size_t left = (end - offset) / Tile::kBytes;
    const size_t tiles = left < kTiles ? left : kTiles;
    for (size_t k = 0; k < range.input_count; k += kGroup) {
      const size_t rest = range.input_count - k;
      const size_t group = rest < kGroup ? rest : kGroup;
      for (size_t t = 0; t < tiles; ++t) {
        const size_t at = offset + t * Tile::kBytes;
        if (k == 0) LoadTile<Lanes>(range.inputs[0] + at, block[t]);
        const size_t loaded = k == 0 ? 1 : 0;
        Fold<Lanes>(range.inputs + k + loaded, group - loaded, at, block[t]);
      }
    }
    for (size_t t = 0; t < tiles; ++t) {
      Lanes::Finish(block[t], range.divisor, result + t * Tile::kRaws);
    }
    StoreAll(range, offset, result, tiles * Tile::kRaws);
    offset += tiles * Tile::kBytes;
  }
}

// Less than a tile: by the same arithmetic on a copy, filled up with zeros.
template <typename Lanes>
TUTTI_INLINE void ReduceRest(const Reduction& range, size_t offset, size_t bytes) {
  alignas(kVectorBytes) std::byte padded[TileOf<Lanes>::kBytes] = {};
  const std::byte* const inputs[1] = {padded};
  typename Lanes::Vector tile[kTile];
  __builtin_memcpy(padded, range.inputs[0] + offset, bytes);
  LoadTile<Lanes>(padded, tile);
  for (size_t k = 1; k < range.input_count; ++k) {
    __builtin_memcpy(padded, range.inputs[k] + offset, bytes);
    Fold<Lanes>(inputs, 1, 0, tile);
  }
  Raw result[TileOf<Lanes>::kRaws];
  Lanes::Finish(tile, range.divisor, result);
  for (size_t k = 0; k < range.output_count; ++k) {
    __builtin_memcpy(range.outputs[k] + offset, result, bytes);
  }
}

template <typename Lanes>
void Reduce(const Reduction& range) {
  const size_t begin = range.first * Lanes::kElementBytes;
  const size_t bytes = range.count * Lanes::kElementBytes;
  const size_t rest = bytes % TileOf<Lanes>::kBytes;
  const size_t end = begin + bytes - rest;
  if (range.input_count > kNarrow || range.output_count > kNarrow) {
    ReduceBlocks<Lanes>(range, begin, end);
  } else {
    ReduceTiles<Lanes>(range, begin, end);
  }
  if (rest > 0) ReduceRest<Lanes>(range, end, rest);
  // Whoever is told that this is done must see what was streamed.
  if (range.streamed > 0) _mm_sfence();
}

void ExchangeBytes(const Exchange& range) {
  constexpr size_t kVectors = 4;
  constexpr size_t kBytes = kVectors * kVectorBytes;
  size_t offset = range.first;
  const size_t end = range.first + range.count;
  for (; end - offset >= kBytes; offset += kBytes) {
    Raw a[kVectors];
    Raw b[kVectors];
    TUTTI_UNROLL
    for (size_t i = 0; i < kVectors; ++i) {
      a[i] = LoadVector<uint8_t>(range.a_in + offset + i * kVectorBytes);
      b[i] = LoadVector<uint8_t>(range.b_in + offset + i * kVectorBytes);
    }
    TUTTI_UNROLL
    for (size_t i = 0; i < kVectors; ++i) {
      StoreVector(range.a_out + offset + i * kVectorBytes, b[i]);
      StoreVector(range.b_out + offset + i * kVectorBytes, a[i]);
    }
  }
  std::byte a[kBytes];
  std::byte b[kBytes];
  __builtin_memcpy(a, range.a_in + offset, end - offset);
  __builtin_memcpy(b, range.b_in + offset, end - offset);
  __builtin_memcpy(range.a_out + offset, b, end - offset);
  __builtin_memcpy(range.b_out + offset, a, end - offset);
}

}  // namespace
}  // namespace tutti
