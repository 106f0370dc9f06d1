#include "backends/conformance_shape.h"

#include <algorithm>
#include <utility>

namespace tutti::conformance {
namespace {

constexpr size_t kManyTensors = 300;

bool InPlace(const Case& test, Rank rank) {
  return test.placement == Placement::kInPlace ||
         (test.placement == Placement::kMixed && rank % 2 == 0);
}

// Input `input` of all ranks.
std::vector<Source> OfAll(const Case& test, size_t input) {
  std::vector<Source> sources;
  for (Rank rank = 0; rank < test.world_size; ++rank) sources.push_back({rank, input});
  return sources;
}

std::vector<size_t> TensorCounts(const Case& test, uint64_t seed) {
  if (test.layout == Layout::kOne) return {test.count};
  if (test.layout == Layout::kThree) return {test.count / 3, 0, test.count - test.count / 3};
  std::vector<size_t> counts;
  size_t left = test.count;
  while (counts.size() + 1 < kManyTensors) {
    const size_t most = std::min(left, 2 * test.count / kManyTensors + 1);
    counts.push_back(NextRandom(&seed) % (most + 1));
    left -= counts.back();
  }
  counts.push_back(left);
  return counts;
}

// allreduce, reduce, broadcast.
RankShape TensorsOf(const Case& test, Rank rank, const std::vector<size_t>& counts) {
  const bool broadcast = test.kind == CollectiveKind::kBroadcast;
  const bool is_root = rank == test.root;
  const bool reads = !broadcast || is_root;
  bool writes = test.kind != CollectiveKind::kReduce || is_root;
  if (broadcast && is_root && test.placement == Placement::kMixed) writes = false;
  RankShape shape{.rank = rank};
  if (reads) shape.inputs = counts;
  for (size_t k = 0; k < counts.size() && writes; ++k) {
    shape.outputs.push_back({.count = counts[k]});
    OutputShape& output = shape.outputs.back();
    output.from = broadcast ? std::vector<Source>{{test.root, k}} : OfAll(test, k);
    if (reads && InPlace(test, rank)) output.in_place_of = k;
  }
  return shape;
}

// allgather, gather.
RankShape GatherOf(const Case& test, Rank rank) {
  RankShape shape{.rank = rank, .inputs = {test.count}};
  if (test.kind == CollectiveKind::kGather && rank != test.root) return shape;
  for (Rank source = 0; source < test.world_size; ++source) {
    shape.outputs.push_back({.count = test.count, .from = {{source, 0}}});
    if (source == rank && InPlace(test, rank)) shape.outputs.back().in_place_of = 0;
  }
  return shape;
}

// scatter, reduce_scatter.
RankShape ScatterOf(const Case& test, Rank rank) {
  const bool reduces = test.kind == CollectiveKind::kReduceScatter;
  const bool reads = reduces || rank == test.root;
  RankShape shape{.rank = rank};
  if (reads) shape.inputs.assign(test.world_size, test.count);
  OutputShape output{.count = test.count};
  output.from = reduces ? OfAll(test, rank) : std::vector<Source>{{test.root, rank}};
  if (reads && InPlace(test, rank)) output.in_place_of = rank;
  shape.outputs = {output};
  return shape;
}

// Elements that `from` has for `to`. A buffer that is both has one size, so if one of two ranks
// works in place, they have as much for each other.
size_t Split(const Case& test, uint64_t seed, Rank from, Rank to) {
  if (test.layout == Layout::kOne) return test.count;
  if (from > to && (InPlace(test, from) || InPlace(test, to))) std::swap(from, to);
  uint64_t state = seed + from * 64 + to;
  const uint64_t random = NextRandom(&state);
  return random % 4 == 0 ? 0 : (random >> 2) % (test.count + 1);
}

RankShape AllToAllOf(const Case& test, uint64_t seed, Rank rank) {
  RankShape shape{.rank = rank};
  for (Rank other = 0; other < test.world_size; ++other) {
    shape.inputs.push_back(Split(test, seed, rank, other));
    shape.outputs.push_back({.count = Split(test, seed, other, rank), .from = {{other, rank}}});
    if (InPlace(test, rank)) shape.outputs.back().in_place_of = other;
  }
  return shape;
}

// The root sends to the rank after it.
std::vector<RankShape> TransferOf(const Case& test) {
  const Rank receiver = (test.root + 1) % test.world_size;
  std::vector<RankShape> shapes = {{.rank = test.root, .inputs = {test.count}}, {.rank = receiver}};
  shapes[1].outputs = {{.count = test.count, .from = {{test.root, 0}}}};
  if (receiver < test.root) std::swap(shapes[0], shapes[1]);
  return shapes;
}

}  // namespace

std::vector<RankShape> ShapeOf(const Case& test, uint64_t seed) {
  if (test.kind == CollectiveKind::kSend) return TransferOf(test);
  const std::vector<size_t> counts = TensorCounts(test, seed);
  std::vector<RankShape> shapes;
  for (Rank rank = 0; rank < test.world_size; ++rank) {
    switch (test.kind) {
      case CollectiveKind::kAllreduce:
      case CollectiveKind::kReduce:
      case CollectiveKind::kBroadcast:
        shapes.push_back(TensorsOf(test, rank, counts));
        break;
      case CollectiveKind::kAllgather:
      case CollectiveKind::kGather:
        shapes.push_back(GatherOf(test, rank));
        break;
      case CollectiveKind::kScatter:
      case CollectiveKind::kReduceScatter:
        shapes.push_back(ScatterOf(test, rank));
        break;
      case CollectiveKind::kAllToAll:
        shapes.push_back(AllToAllOf(test, seed, rank));
        break;
      default:
        shapes.push_back({.rank = rank});
    }
  }
  return shapes;
}

}  // namespace tutti::conformance
