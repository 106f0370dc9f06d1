#include "backends/local/plan.h"

#include <catch2/catch.hpp>
#include <numeric>

#include "backends/local/plan_builder.h"

namespace tutti {
namespace {

// Tensors of int64 for every rank, all with `rank + 1` in every element.
struct Tensors {
  Tensors(uint32_t ranks, const std::vector<size_t>& counts) : memory(ranks) {
    collective = {.kind = CollectiveKind::kAllreduce,
                  .dtype = DataType::kInt64,
                  .op = ReduceOp::kSum,
                  .count = std::accumulate(counts.begin(), counts.end(), size_t{0}),
                  .world_size = ranks};
    for (Rank rank = 0; rank < ranks; ++rank) {
      Participant participant{.rank = rank};
      for (const size_t count : counts) {
        memory[rank].emplace_back(count, int64_t{rank} + 1);
        participant.inputs.push_back(
            {.data = reinterpret_cast<std::byte*>(memory[rank].back().data()),
             .size_bytes = count * sizeof(int64_t)});
      }
      participant.outputs = participant.inputs;
      collective.participants.push_back(participant);
    }
  }

  std::vector<std::vector<std::vector<int64_t>>> memory;  // by rank and tensor
  Collective collective;
};

Plan MakePlan(const Collective& collective) {
  auto plan = Plan::Make(collective, kSse2Kernels);
  REQUIRE(plan.ok());
  return *std::move(plan);
}

size_t Chunks(const Plan& plan) {
  return (plan.size() + plan.chunk_size() - 1) / plan.chunk_size();
}

TEST_CASE("Chunks have a size in bytes over all buffers, whole pages of each, and at least one") {
  // 512 KiB over 2 x 2 buffers of float32.
  CHECK(ChunkElements(4, 4) == 32768);
  CHECK(ChunkElements(3, 1) % 4096 == 0);
  CHECK(ChunkElements(1000, 8) == 512);
  CHECK(ChunkElements(0, 1) == 512 << 10);
}

TEST_CASE("One huge tensor is many chunks, a thousand small ones are few") {
  CHECK(Chunks(MakePlan(Tensors(2, {1'000'000}).collective)) > 50);
  const Tensors small(2, std::vector<size_t>(1000, 16));
  CHECK(Chunks(MakePlan(small.collective)) == 1);
}

TEST_CASE("Every element is done once, wherever ranges begin and end") {
  const std::vector<size_t> counts = {3, 0, 1000, 1, 0, 8, 77};
  const size_t size = MakePlan(Tensors(3, counts).collective).size();
  for (const size_t range : {size_t{1}, size_t{5}, size_t{64}, size}) {
    Tensors tensors(3, counts);
    const Plan plan = MakePlan(tensors.collective);
    CHECK(plan.size() == size);
    for (size_t first = 0; first < size; first += range) {
      plan.Run(first, std::min(range, size - first));
    }
    // Once: in place, a second time would make it more.
    for (const auto& rank : tensors.memory) {
      for (const auto& tensor : rank) CHECK(tensor == std::vector<int64_t>(tensor.size(), 6));
    }
  }
}

TEST_CASE("Tensors begin at cache lines of the plan") {
  // 8 elements of 8 bytes are a line, so each of these takes one.
  CHECK(MakePlan(Tensors(2, {1, 8, 3}).collective).size() == 24);
  CHECK(MakePlan(Tensors(2, {0, 0}).collective).size() == 0);
  CHECK(MakePlan(Tensors(2, {}).collective).size() == 0);
}

TEST_CASE("The sum of one rank in place is nothing to do") {
  CHECK(MakePlan(Tensors(1, {100}).collective).size() == 0);
  // But a bool becomes 0 or 1.
  Tensors bools(1, {1});
  bools.collective.dtype = DataType::kBool;
  bools.collective.count = 8;
  const Plan plan = MakePlan(bools.collective);
  plan.Run(0, plan.size());
  bools.memory[0][0][0] |= 0x0200;
  plan.Run(0, plan.size());
  CHECK(bools.memory[0][0][0] == 0x0101);
}

// Whether that is refused, naming rank `rank`.
bool Refused(const Collective& collective, Rank rank) {
  const auto plan = Plan::Make(collective, kSse2Kernels);
  return absl::IsInternal(plan.status()) &&
         std::string(plan.status().message()).find("rank " + std::to_string(rank)) !=
             std::string::npos;
}

TEST_CASE("Tensors that do not fit are refused") {
  const Collective good = Tensors(3, {4, 8}).collective;
  Collective missing = good;
  missing.participants[2].inputs.pop_back();
  CHECK(Refused(missing, 2));
  Collective longer = good;
  longer.participants[1].outputs[1].size_bytes += 8;
  CHECK(Refused(longer, 1));
  Collective more = good;
  more.count += 1;
  CHECK(Refused(more, 0));
  Collective reduce = good;
  reduce.kind = CollectiveKind::kReduce;
  reduce.root = 1;
  CHECK(Refused(reduce, 0));  // has outputs
  reduce.participants[0].outputs.clear();
  reduce.participants[2].outputs.clear();
  CHECK_FALSE(Refused(reduce, 0));
  reduce.root = 3;
  CHECK(Refused(reduce, 3));
}

TEST_CASE("Lists that do not fit are refused") {
  Collective collective = Tensors(2, {4, 4}).collective;
  collective.op = ReduceOp::kNone;
  collective.count = 4;
  collective.kind = CollectiveKind::kAllToAll;
  CHECK_FALSE(Refused(collective, 0));
  collective.participants[0].inputs[1].size_bytes = 16;
  CHECK(Refused(collective, 0));
  collective.kind = CollectiveKind::kAllgather;
  CHECK(Refused(collective, 0));
  collective.kind = CollectiveKind::kReduceScatter;
  collective.op = ReduceOp::kSum;
  CHECK(Refused(collective, 0));
  collective.kind = CollectiveKind::kScatter;
  CHECK(Refused(collective, 0));
  collective.kind = CollectiveKind::kSend;
  CHECK(Refused(collective, 0));
}

TEST_CASE("Exchanged in place, but of two sizes, is refused") {
  Collective collective = Tensors(2, {4, 4}).collective;
  collective.kind = CollectiveKind::kAllToAll;
  collective.op = ReduceOp::kNone;
  collective.count = 0;
  // Rank 0 is in place by its addresses, and gets less than it sends.
  collective.participants[0].outputs[1].size_bytes = 16;
  collective.participants[1].inputs[0].size_bytes = 16;
  CHECK(Refused(collective, 0));
}

}  // namespace
}  // namespace tutti
