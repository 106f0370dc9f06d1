// Which buffers a case has, and what belongs in its outputs: the table of backend.h, once more, in
// the suite's own words.
//
// For the conformance suite. Plain values; pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "backends/conformance.h"

namespace tutti::conformance {

// An input of a rank.
struct Source {
  Rank rank = 0;
  size_t input = 0;
};

struct OutputShape {
  size_t count = 0;
  // What is combined, by rank, or the one input that is copied.
  std::vector<Source> from;
  // The input of the same rank whose very bytes this is.
  std::optional<size_t> in_place_of;
};

// Counts of elements.
struct RankShape {
  Rank rank = 0;
  std::vector<size_t> inputs;
  std::vector<OutputShape> outputs;
};

// By participant. The same for the same seed.
std::vector<RankShape> ShapeOf(const Case& test, uint64_t seed);

}  // namespace tutti::conformance
