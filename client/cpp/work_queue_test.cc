#include "client/cpp/work_queue.h"

#include <catch2/catch.hpp>

namespace tutti {
namespace {

std::shared_ptr<PendingWork> NewPending() {
  return std::make_shared<PendingWork>(PendingWork::Options());
}

v1::Completion Done(uint64_t serial, uint64_t number) {
  v1::Completion completion;
  completion.set_serial(serial);
  completion.set_number(number);
  return completion;
}

std::vector<uint64_t> NumbersAfter(const WorkQueue& queue, uint64_t last_received) {
  std::vector<const v1::Work*> works;
  REQUIRE_FALSE(queue.WorksAfter(last_received, &works).has_value());
  std::vector<uint64_t> numbers;
  for (const v1::Work* const work : works) numbers.push_back(work->number());
  return numbers;
}

TEST_CASE("works are numbered from 1") {
  WorkQueue queue;
  CHECK(queue.Add(v1::Work(), NewPending()).number() == 1);
  CHECK(queue.Add(v1::Work(), NewPending()).number() == 2);
  CHECK(queue.last_number() == 2);
  CHECK(queue.in_flight() == 2);
}

TEST_CASE("a new stream gets what the daemon has not received, in order, and no more") {
  WorkQueue queue;
  for (int i = 0; i < 4; ++i) queue.Add(v1::Work(), NewPending());
  CHECK(NumbersAfter(queue, 0) == std::vector<uint64_t>{1, 2, 3, 4});
  CHECK(NumbersAfter(queue, 2) == std::vector<uint64_t>{3, 4});
  CHECK(NumbersAfter(queue, 4).empty());
}

TEST_CASE("a daemon that claims to have received what was never sent is refused") {
  WorkQueue queue;
  queue.Add(v1::Work(), NewPending());
  std::vector<const v1::Work*> works;
  const auto failure = queue.WorksAfter(2, &works);
  REQUIRE(failure.has_value());
  CHECK(failure->cause == Cause::kProtocol);
}

TEST_CASE("completions end their works, in any order of numbers") {
  WorkQueue queue;
  const auto first = NewPending();
  const auto second = NewPending();
  queue.Add(v1::Work(), first);
  queue.Add(v1::Work(), second);
  std::shared_ptr<PendingWork> ended;
  CHECK_FALSE(queue.Take(Done(1, 2), &ended).has_value());
  CHECK(ended == second);
  CHECK_FALSE(queue.Take(Done(2, 1), &ended).has_value());
  CHECK(ended == first);
  CHECK(queue.in_flight() == 0);
}

TEST_CASE("a completion that is told again changes nothing") {
  WorkQueue queue;
  queue.Add(v1::Work(), NewPending());
  std::shared_ptr<PendingWork> ended;
  CHECK_FALSE(queue.Take(Done(1, 1), &ended).has_value());
  CHECK(ended != nullptr);
  CHECK_FALSE(queue.Take(Done(1, 1), &ended).has_value());
  CHECK(ended == nullptr);
  CHECK(queue.last_serial() == 1);
}

TEST_CASE("a gap in the serials and a work that is not in flight break the protocol") {
  WorkQueue queue;
  queue.Add(v1::Work(), NewPending());
  std::shared_ptr<PendingWork> ended;
  const auto gap = queue.Take(Done(2, 1), &ended);
  REQUIRE(gap.has_value());
  CHECK(gap->cause == Cause::kProtocol);
  const auto unknown = queue.Take(Done(1, 9), &ended);
  REQUIRE(unknown.has_value());
  CHECK(unknown->cause == Cause::kProtocol);
  CHECK(ended == nullptr);
  CHECK(queue.in_flight() == 1);
}

TEST_CASE("what has been taken is unacknowledged until the daemon is told") {
  WorkQueue queue;
  std::shared_ptr<PendingWork> ended;
  for (uint64_t i = 1; i <= 3; ++i) {
    queue.Add(v1::Work(), NewPending());
    CHECK_FALSE(queue.Take(Done(i, i), &ended).has_value());
  }
  CHECK(queue.unacknowledged() == 3);
  queue.Acknowledge();
  CHECK(queue.unacknowledged() == 0);
}

TEST_CASE("at the end all works come out, oldest first") {
  WorkQueue queue;
  const auto first = NewPending();
  const auto second = NewPending();
  queue.Add(v1::Work(), first);
  queue.Add(v1::Work(), second);
  CHECK(queue.TakeAll() == std::vector<std::shared_ptr<PendingWork>>{first, second});
  CHECK(queue.in_flight() == 0);
}

}  // namespace
}  // namespace tutti
