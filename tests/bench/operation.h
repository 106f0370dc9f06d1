// What the benchmark runs, which buffers it takes, and which result is right: one definition for
// all contestants, so that all are asked for the same.
//
// Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace tutti::bench {

enum class Operation {
  kAllReduce,
  kReduce,
  kBroadcast,
  kAllGather,
  kGather,
  kScatter,
  kReduceScatter,
  kAllToAll,
  // Even ranks send to the next odd one, all pairs at the same time.
  kSendRecv,
};

// "allreduce", "sendrecv"; nothing for another name.
std::optional<Operation> OperationNamed(std::string_view name);

// The root of all rooted operations.
inline constexpr uint32_t kRoot = 0;

// One process's place.
struct Place {
  uint32_t rank = 0;
  uint32_t world_size = 1;
};

// The float32 buffers of one rank: `inputs` and `outputs` parts of `count` elements each.
struct Shape {
  size_t inputs = 0;
  size_t outputs = 0;
  size_t count = 0;
  // The outputs are the inputs; otherwise they do not overlap.
  bool in_place = false;
};

// `bytes` is what the largest buffer of a rank has in all its parts. REQUIRES: what has a part for
// each rank has at least one element in each.
Shape ShapeOf(Operation operation, const Place& place, size_t bytes);

// What element `index` of a part is on the way in, and has to be on the way out. Small integers:
// sums are exact in any order.
float InputValue(uint32_t rank, size_t part, size_t index);
float ResultValue(Operation operation, const Place& place, size_t part, size_t index);

}  // namespace tutti::bench
