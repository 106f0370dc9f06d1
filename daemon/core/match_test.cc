#include "daemon/core/match.h"

#include <catch2/catch.hpp>

namespace tutti {
namespace {

std::unique_ptr<Work> WorkOf(Rank rank) {
  auto work = std::make_unique<Work>();
  work->rank = rank;
  work->signature.kind = CollectiveKind::kBarrier;
  return work;
}

TEST_CASE("the k-th works of all ranks meet, in any order of arrival") {
  OpSequence sequence({0, 1, 2});
  const auto first = sequence.Add(WorkOf(1));
  const auto second = sequence.Add(WorkOf(1));
  CHECK(first->sequence == 1);
  CHECK(second->sequence == 2);
  CHECK(sequence.Add(WorkOf(0)) == first);
  CHECK_FALSE(first->complete());
  CHECK(sequence.Add(WorkOf(2)) == first);
  CHECK(first->complete());
  CHECK(sequence.LastOf(0) == 1);
  CHECK(sequence.LastOf(1) == 2);
  sequence.PopFront();
  CHECK(sequence.LastOf(0) == 1);
  CHECK(sequence.Add(WorkOf(0)) == second);
  CHECK(sequence.Front() == second);
  CHECK(sequence.OldestIncomplete() == second);
}

TEST_CASE("a cap leaves complete operations, and returns the others once they are beyond it") {
  OpSequence sequence({0, 1});
  sequence.Add(WorkOf(0));
  sequence.Add(WorkOf(0));
  sequence.Add(WorkOf(0));
  sequence.Add(WorkOf(1));
  const auto beyond = sequence.CapAt(2, {.cause = Cause::kRankLeft});
  REQUIRE(beyond.size() == 1);
  CHECK(beyond[0]->sequence == 3);
  CHECK(sequence.Accepts(1));
  sequence.Add(WorkOf(1));
  CHECK_FALSE(sequence.Accepts(1));
  CHECK_FALSE(sequence.Accepts(0));
  // Caps only get lower.
  sequence.CapAt(100, {.cause = Cause::kRankDied});
  CHECK_FALSE(sequence.Accepts(1));
}

TEST_CASE("who comes too late is told what ended its very operation") {
  OpSequence sequence({0, 1, 2});
  sequence.Add(WorkOf(0));
  sequence.CapAt(1, {.cause = Cause::kRankLeft, .culprits = {0}});
  CHECK(sequence.Accepts(1));
  sequence.CapAt(0, {.cause = Cause::kRankDied, .culprits = {1}});
  CHECK(sequence.Refuse(2).cause == Cause::kRankDied);
  CHECK(sequence.Refuse(2).cause == Cause::kRankLeft);
  CHECK(sequence.Refuse(2).cause == Cause::kRankLeft);
  CHECK(sequence.Refuse(0).cause == Cause::kRankLeft);
  CHECK(sequence.LastOf(2) == 0);
}

TEST_CASE("what is withdrawn leaves no gap behind") {
  OpSequence pair({4, 7});
  const auto withdrawn = pair.Add(WorkOf(7));
  const auto next = pair.Add(WorkOf(7));
  pair.Withdraw(*withdrawn);
  CHECK(pair.Add(WorkOf(4)) == next);
  CHECK(next->complete());
}

TEST_CASE("a signature has no byte that is not compared") {
  Signature a;
  Signature b;
  CHECK(a == b);
  b.reserved[4] = 1;
  CHECK_FALSE(a == b);
}

const std::string kName = "dp";
const GroupLabel kHere{kName, 3};

TEST_CASE("send and recv agree although they are different operations") {
  OpSequence pair({0, 1});
  auto send = WorkOf(0);
  send->signature = {
      .count = 4, .root = 1, .parts = 1, .kind = CollectiveKind::kSend, .dtype = DataType::kInt8};
  auto recv = WorkOf(1);
  recv->signature = {
      .count = 4, .root = 0, .parts = 1, .kind = CollectiveKind::kRecv, .dtype = DataType::kInt8};
  SECTION("same size") {
    pair.Add(std::move(send));
    CHECK_FALSE(Disagreement(*pair.Add(std::move(recv)), kHere).has_value());
  }
  SECTION("other size") {
    recv->signature.count = 5;
    pair.Add(std::move(send));
    const auto failure = Disagreement(*pair.Add(std::move(recv)), kHere);
    REQUIRE(failure.has_value());
    CHECK(failure->message.find("element count") != std::string::npos);
    CHECK(failure->message.find("rank 0: send of 4 int8; rank 1: recv of 5 int8") !=
          std::string::npos);
  }
}

std::unique_ptr<Work> ManyTensors(Rank rank, const std::vector<size_t>& bytes) {
  auto work = WorkOf(rank);
  work->signature = {.count = 0,
                     .parts = static_cast<uint32_t>(bytes.size()),
                     .kind = CollectiveKind::kAllreduce,
                     .dtype = DataType::kFloat32,
                     .op = ReduceOp::kSum};
  for (const size_t size : bytes) {
    work->buffers.inputs.push_back({nullptr, size});
    work->signature.count += size / 4;
  }
  return work;
}

TEST_CASE("several tensors at once agree one by one") {
  OpSequence sequence({0, 1, 2});
  sequence.Add(ManyTensors(0, {8, 40, 12}));
  sequence.Add(ManyTensors(1, {8, 40, 12}));
  SECTION("all the same") {
    CHECK_FALSE(Disagreement(*sequence.Add(ManyTensors(2, {8, 40, 12})), kHere).has_value());
  }
  SECTION("as many elements, otherwise divided") {
    const auto failure = Disagreement(*sequence.Add(ManyTensors(2, {8, 12, 40})), kHere);
    REQUIRE(failure.has_value());
    CHECK(failure->culprits == std::vector<Rank>{2});
    CHECK(failure->message.find("the element count of tensor 1 (10 and 3)") != std::string::npos);
  }
  SECTION("another number of tensors") {
    const auto failure = Disagreement(*sequence.Add(ManyTensors(2, {8, 52})), kHere);
    REQUIRE(failure.has_value());
    CHECK(failure->message.find("number of tensors") != std::string::npos);
  }
}

std::unique_ptr<Work> Splits(Rank rank, std::vector<size_t> inputs, std::vector<size_t> outputs) {
  auto work = WorkOf(rank);
  work->signature = {.kind = CollectiveKind::kAllToAll, .dtype = DataType::kFloat32};
  work->buffers.rank = rank;
  for (const size_t size : inputs) work->buffers.inputs.push_back({nullptr, size});
  for (const size_t size : outputs) work->buffers.outputs.push_back({nullptr, size});
  return work;
}

TEST_CASE("what one rank has for another is what that expects") {
  OpSequence sequence({0, 1});
  sequence.Add(Splits(0, {4, 8}, {4, 12}));
  SECTION("it is") {
    CHECK_FALSE(Disagreement(*sequence.Add(Splits(1, {12, 0}, {8, 0})), kHere).has_value());
  }
  SECTION("it is not") {
    const auto failure = Disagreement(*sequence.Add(Splits(1, {12, 0}, {16, 0})), kHere);
    REQUIRE(failure.has_value());
    CHECK(failure->cause == Cause::kMismatch);
    CHECK(failure->culprits == std::vector<Rank>{0, 1});
    CHECK(failure->message.find("rank 0 has 2 elements for rank 1, which expects 4 from it") !=
          std::string::npos);
  }
  SECTION("not even within one rank") {
    const auto failure = Disagreement(*sequence.Add(Splits(1, {12, 0}, {8, 4})), kHere);
    REQUIRE(failure.has_value());
    CHECK(failure->culprits == std::vector<Rank>{1});
  }
}

}  // namespace
}  // namespace tutti
