#include "backends/local/local_backend.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <thread>

#include "backends/local/chunks.h"
#include "base/failpoint.h"
#include "base/testing/manual_task_runner.h"
#include "base/worker_pool.h"

namespace tutti {
namespace {

constexpr size_t kThreads = 2;

// A collective over memory that it owns, large enough for `Chunks` below to be more than one.
struct LargeAllreduce {
  explicit LargeAllreduce(uint32_t ranks, size_t count = 200'000) {
    spec.world_size = ranks;
    collective = {.kind = CollectiveKind::kAllreduce,
                  .dtype = DataType::kInt64,
                  .op = ReduceOp::kSum,
                  .count = count,
                  .world_size = ranks};
    for (Rank rank = 0; rank < ranks; ++rank) {
      memory.emplace_back(count, int64_t{1} << rank);
      const Buffer buffer{.data = reinterpret_cast<std::byte*>(memory.back().data()),
                          .size_bytes = count * sizeof(int64_t)};
      collective.participants.push_back({.rank = rank, .inputs = {buffer}, .outputs = {buffer}});
      spec.local_ranks.push_back(rank);
    }
  }
  GroupSpec spec;
  std::vector<std::vector<int64_t>> memory;
  Collective collective;
};

// Waits until `held` threads are held at the failpoint.
void WaitUntilHeld(std::string_view failpoint, uint32_t held) {
  while (SetFailpoint(failpoint, FailpointAction::kQuery, 0).held < held) std::this_thread::yield();
}

TEST_CASE("What is not supported is named") {
  ManualTaskRunner* const no_pool = nullptr;
  const LocalBackend backend(no_pool, 1);
  const auto refusal = [&](CollectiveKind kind, DataType dtype, ReduceOp op) {
    const absl::Status status = backend.Supports(kind, dtype, op);
    CHECK(absl::IsUnimplemented(status));
    return std::string(status.message());
  };
  CHECK(refusal(CollectiveKind::kRecv, DataType::kFloat32, ReduceOp::kNone) ==
        "the local backend has no recv of float32");
  CHECK(refusal(CollectiveKind::kAllgather, DataType::kFloat16, ReduceOp::kSum) ==
        "the local backend has no allgather sum of float16");
  CHECK(refusal(CollectiveKind::kReduce, DataType::kBool, ReduceOp::kAvg) ==
        "the average of bool has no meaning; convert to an integer or floating type, or use max "
        "(any) or min (all)");
  refusal(CollectiveKind::kAllreduce, DataType::kFloat32, ReduceOp::kNone);
  refusal(CollectiveKind::kAllreduce, DataType::kNone, ReduceOp::kSum);
  refusal(CollectiveKind::kBroadcast, DataType::kNone, ReduceOp::kNone);
  refusal(CollectiveKind::kAgree, DataType::kBool, ReduceOp::kMin);
  refusal(CollectiveKind::kNone, DataType::kNone, ReduceOp::kNone);
  refusal(CollectiveKind::kBarrier, DataType::kFloat32, ReduceOp::kNone);
  CHECK(backend.Supports(CollectiveKind::kBarrier, DataType::kNone, ReduceOp::kNone).ok());
}

TEST_CASE("All types are supported, by all kinds that backends see") {
  const LocalBackend backend(nullptr, 1);
  for (uint8_t number = 1; number < kDataTypes; ++number) {
    const auto dtype = static_cast<DataType>(number);
    for (auto kind = uint8_t{1}; kind <= static_cast<uint8_t>(CollectiveKind::kSend); ++kind) {
      const auto collective = static_cast<CollectiveKind>(kind);
      const ReduceOp op = Reduces(collective) ? ReduceOp::kProduct : ReduceOp::kNone;
      CHECK(backend.Supports(collective, dtype, op).ok());
    }
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMin, ReduceOp::kMax, ReduceOp::kAvg}) {
      const bool supported = backend.Supports(CollectiveKind::kAllreduce, dtype, op).ok();
      CHECK(supported == (dtype != DataType::kBool || op != ReduceOp::kAvg));
    }
  }
}

TEST_CASE("Groups with ranks elsewhere are refused") {
  LocalBackend backend(nullptr, 1);
  CHECK(absl::IsInvalidArgument(backend.Connect({.world_size = 2, .local_ranks = {0}}).status()));
  CHECK(absl::IsInvalidArgument(backend.Connect({.world_size = 0, .local_ranks = {}}).status()));
}

TEST_CASE(
    "Small collectives and lone ones ask the pool for nothing, large ones do not wait for it") {
  FakeClock clock;
  ManualTaskRunner pool(&clock);
  LocalBackend backend(&pool, 4);
  // 2 ranks x (in + out) x 4096 x 8 bytes: exactly 128 KiB.
  LargeAllreduce small(2, 4096);
  const auto communicator = std::move(backend.Connect(small.spec)).value();
  REQUIRE(communicator->Run(small.collective).ok());
  CHECK(pool.pending() == 0);
  CHECK(small.memory[1][4095] == 3);

  LargeAllreduce alone(2);
  alone.collective.alone = true;
  REQUIRE(communicator->Run(alone.collective).ok());
  CHECK(pool.pending() == 0);
  CHECK(alone.memory[1].back() == 3);

  LargeAllreduce large(2);
  REQUIRE(communicator->Run(large.collective).ok());  // the pool has not run anything
  CHECK(pool.pending() == 3);
  CHECK(large.memory[1].back() == 3);
}

TEST_CASE("Helpers that start when all is over touch nothing") {
  FakeClock clock;
  ManualTaskRunner pool(&clock);
  {
    LocalBackend backend(&pool, 4);
    LargeAllreduce large(2);
    const auto communicator = std::move(backend.Connect(large.spec)).value();
    REQUIRE(communicator->Run(large.collective).ok());
  }
  // Under ASan, a touch of the buffers, the collective or the communicator is an error.
  CHECK(pool.pending() == 3);
  pool.RunUntilIdle();
}

TEST_CASE("Run returns when the chunks of its helpers are done, too") {
  if (!kFailpointsBuiltIn) return;
  WorkerPool pool("test", kThreads);
  LocalBackend backend(&pool, kThreads + 1);  // the caller is not of the pool here
  LargeAllreduce large(4);
  const auto communicator = std::move(backend.Connect(large.spec)).value();
  SetFailpoint("local.mid_chunk", FailpointAction::kPause, 1);
  absl::Status status;
  {
    Thread caller("caller", [&] { status = communicator->Run(large.collective); });
    WaitUntilHeld("local.mid_chunk", 3);
    SetFailpoint("local.mid_chunk", FailpointAction::kOff, 0);
  }
  CHECK(status.ok());
  for (const auto& memory : large.memory) {
    CHECK(memory == std::vector<int64_t>(memory.size(), 15));
  }
}

TEST_CASE("Abort ends a Run after the chunks that were taken") {
  if (!kFailpointsBuiltIn) return;
  WorkerPool pool("test", kThreads);
  LocalBackend backend(&pool, kThreads);
  LargeAllreduce large(4);
  const auto communicator = std::move(backend.Connect(large.spec)).value();
  SetFailpoint("local.mid_chunk", FailpointAction::kPause, 1);
  absl::Status status;
  {
    Thread caller("caller", [&] { status = communicator->Run(large.collective); });
    WaitUntilHeld("local.mid_chunk", 2);
    communicator->Abort();
    SetFailpoint("local.mid_chunk", FailpointAction::kOff, 0);
  }
  CHECK(absl::IsAborted(status));
  // The first chunk was taken and finished, the last never begun.
  CHECK(large.memory[3].front() == 15);
  CHECK(large.memory[3].back() == 8);
  CHECK(absl::IsAborted(communicator->Run(large.collective)));
}

TEST_CASE("Abort after the last chunk was taken comes too late to fail the Run") {
  const auto aborted = std::make_shared<std::atomic<bool>>(false);
  std::vector<size_t> firsts;
  const auto run = [&](size_t abort_at) {
    firsts.clear();
    aborted->store(false);
    return RunChunks({.size = 10,
                      .chunk_size = 4,
                      .body =
                          [&](size_t first, size_t count) {
                            firsts.push_back(first);
                            CHECK(count == (first == 8 ? 2u : 4u));
                            if (first == abort_at) aborted->store(true);
                          }},
                     {}, aborted);
  };
  CHECK(run(8).ok());
  CHECK(firsts == std::vector<size_t>{0, 4, 8});
  CHECK(absl::IsAborted(run(4)));
  CHECK(firsts == std::vector<size_t>{0, 4});
}

TEST_CASE("Buffers that do not fit the operation are refused, and end the epoch") {
  LocalBackend backend(nullptr, 1);
  LargeAllreduce work(2, 16);
  auto broken = work.collective;
  broken.participants[1].outputs[0].size_bytes -= 8;
  const auto communicator = std::move(backend.Connect(work.spec)).value();
  const absl::Status status = communicator->Run(broken);
  CHECK(absl::IsInternal(status));
  CHECK(status.message().find("rank 1") != absl::string_view::npos);
  CHECK(absl::IsAborted(communicator->Run(work.collective)));
  CHECK(work.memory[0][0] == 1);
}

TEST_CASE("Participants that are not the group are refused") {
  LocalBackend backend(nullptr, 1);
  const LargeAllreduce work(3, 16);
  const auto refused = [&](const Collective& collective) {
    return absl::IsInternal(std::move(backend.Connect(work.spec)).value()->Run(collective));
  };
  CHECK_FALSE(refused(work.collective));
  auto missing = work.collective;
  missing.participants.pop_back();
  CHECK(refused(missing));
  auto swapped = work.collective;
  std::swap(swapped.participants[0], swapped.participants[1]);
  CHECK(refused(swapped));
  auto other = work.collective;
  other.world_size = 4;
  CHECK(refused(other));
}

TEST_CASE("Collectives of one communicator run at the same time") {
  WorkerPool pool("test", kThreads);
  LocalBackend backend(&pool, kThreads);
  std::vector<std::unique_ptr<LargeAllreduce>> works;
  for (int i = 0; i < 4; ++i) works.push_back(std::make_unique<LargeAllreduce>(3));
  const auto communicator = std::move(backend.Connect(works[0]->spec)).value();
  std::vector<absl::Status> statuses(works.size());  // Catch's assertions are for one thread only
  {
    std::vector<std::unique_ptr<Thread>> callers;
    for (size_t i = 0; i < works.size(); ++i) {
      callers.push_back(std::make_unique<Thread>(
          "caller", [&, i] { statuses[i] = communicator->Run(works[i]->collective); }));
    }
  }
  for (const absl::Status& status : statuses) CHECK(status.ok());
  for (const auto& work : works) {
    for (const auto& memory : work->memory) {
      CHECK(memory == std::vector<int64_t>(memory.size(), 7));
    }
  }
}

}  // namespace
}  // namespace tutti
