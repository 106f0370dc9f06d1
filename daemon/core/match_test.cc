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
    CHECK_FALSE(Disagreement(*pair.Add(std::move(recv)), "here").has_value());
  }
  SECTION("other size") {
    recv->signature.count = 5;
    pair.Add(std::move(send));
    const auto failure = Disagreement(*pair.Add(std::move(recv)), "here");
    REQUIRE(failure.has_value());
    CHECK(failure->message.find("element count") != std::string::npos);
    CHECK(failure->message.find("rank 0: send of 4 int8; rank 1: recv of 5 int8") !=
          std::string::npos);
  }
}

}  // namespace
}  // namespace tutti
