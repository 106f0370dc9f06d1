// What a collective should have written, computed slowly and by other means than any backend's:
// integers by arithmetic modulo a power of two, floats in a wider type, 16-bit floats by rules of
// their own.
//
// For tests; pure and thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/types.h"

namespace tutti::conformance {

using Bytes = std::vector<std::byte>;

// splitmix64: fast, and good enough for data.
inline uint64_t NextRandom(uint64_t* state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// `count` elements, the same for the same seed. Floats of very different magnitudes, so that every
// other order of summation gives other bits; if `special`, among the first ones NaN, infinities,
// -0, subnormals, and for float16 the largest number. Integers from the whole range, so that they
// overflow. Bools of any byte, zeros as often as not.
struct DataSpec {
  DataType dtype = DataType::kNone;
  size_t count = 0;
  uint64_t seed = 0;
  bool special = false;
};
Bytes RandomData(const DataSpec& spec);

// What a backend promises of sums, products and averages of floats.
enum class Rounding : uint8_t {
  // The very bits of accumulating in the order of ranks, in float32 for 16-bit floats, which are
  // rounded once. (Which NaN is not said.)
  kRankOrder,
  // Within the rounding errors of any order.
  kAnyOrder,
};

// Compares `got` with the reduction of `inputs` (by rank, at least one, all of the same size).
// Integers, bools, kMin and kMax must be equal. Returns what is wrong, or nothing.
struct ReductionSpec {
  DataType dtype = DataType::kNone;
  ReduceOp op = ReduceOp::kNone;
  Rounding rounding = Rounding::kRankOrder;
  // If not empty, the ranks of each node: kRankOrder is then the order of ranks on each node, and
  // of nodes, and 16-bit floats are rounded once on each node too (of an average: when it is
  // divided).
  std::vector<std::vector<Rank>> nodes;
};
std::string CheckReduction(const ReductionSpec& spec, const std::vector<const Bytes*>& inputs,
                           const std::byte* got);

}  // namespace tutti::conformance
