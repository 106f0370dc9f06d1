// What a collective should have written, computed slowly and by other means than any backend's:
// integers by arithmetic modulo a power of two on their bytes, floats in a wider type.
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

// `count` elements, the same for the same seed. Floats of very different magnitudes, so that every
// other order of summation gives other bits; the first ones NaN, infinities and -0 if `special`.
// Integers from the whole range, so that they overflow.
struct DataSpec {
  DataType dtype = DataType::kNone;
  size_t count = 0;
  uint64_t seed = 0;
  bool special = false;
};
Bytes RandomData(const DataSpec& spec);

// Compares `got` with the reduction of `inputs` (by rank, all of the same size). Integers and
// kMin/kMax must be equal, other results of floats within the rounding of any order. Returns what
// is wrong, or nothing.
std::string CheckReduction(DataType dtype, ReduceOp op, const std::vector<Bytes>& inputs,
                           const std::byte* got);

}  // namespace tutti::conformance
