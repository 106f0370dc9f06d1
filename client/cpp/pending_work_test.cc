#include "client/cpp/pending_work.h"

#include <catch2/catch.hpp>

#include "client/cpp/work.h"

namespace tutti {
namespace {

const Failure kDied{.cause = Cause::kRankDied, .message = "rank 1 died", .group = "g", .epoch = 2};

TEST_CASE("nothing has ended before its verdict") {
  PendingWork work({});
  CHECK_FALSE(work.WaitFor(absl::ZeroDuration()));
  CHECK_FALSE(work.WaitFor(absl::Milliseconds(1)));
  CHECK_FALSE(work.WaitFor(-absl::Seconds(1)));
  work.Complete(std::nullopt);
  CHECK(work.WaitFor(absl::ZeroDuration()));
  CHECK(work.WaitFor(absl::InfiniteDuration()));
  CHECK_FALSE(work.Wait().has_value());
}

TEST_CASE("the first verdict wins, and stays") {
  PendingWork work({});
  work.Complete(kDied);
  const MonotonicTime when = work.completed_at();
  work.Complete(std::nullopt);
  CHECK(work.Wait() == kDied);
  CHECK(work.Wait() == kDied);
  CHECK(work.completed_at() == when);
}

TEST_CASE("the result is copied back once, by whoever waits first, and only on success") {
  int copies = 0;
  PendingWork good({.copy_back = [&] { ++copies; }});
  good.Complete(std::nullopt);
  CHECK(copies == 0);
  CHECK_FALSE(good.Wait().has_value());
  CHECK_FALSE(good.Wait().has_value());
  CHECK(copies == 1);

  PendingWork bad({.copy_back = [&] { ++copies; }});
  bad.Complete(kDied);
  CHECK(bad.Wait().has_value());
  CHECK(copies == 1);
}

TEST_CASE("what could not be submitted as meant fails, whatever the daemon says") {
  const Failure refused{.cause = Cause::kLimit, .message = "no memory", .group = "g", .epoch = 2};
  PendingWork work({.refused = refused});
  work.Complete(std::nullopt);
  CHECK(work.Wait() == refused);
}

TEST_CASE("a failure without a group gets the work's") {
  PendingWork work({.group = "mine", .epoch = 9});
  work.Complete(Failure{.cause = Cause::kNodeLost, .message = "gone"});
  CHECK(work.Wait()->group == "mine");
  CHECK(work.Wait()->epoch == 9);

  PendingWork named({.group = "mine", .epoch = 9});
  named.Complete(kDied);
  CHECK(named.Wait() == kDied);
}

TEST_CASE("a daemon that says nothing long after the deadline does not hold the caller for ever") {
  PendingWork work({.patience = absl::Milliseconds(5)});
  const auto failure = work.Wait();
  REQUIRE(failure.has_value());
  CHECK(failure->cause == Cause::kDeadline);
  CHECK_FALSE(work.WaitFor(absl::ZeroDuration()));  // it has not ended, only the waiting has
}

TEST_CASE("handles name the same work") {
  const auto pending = std::make_shared<PendingWork>(PendingWork::Options());
  const Work work(pending);
  const Work copy = work;  // NOLINT(performance-unnecessary-copy-initialization): the point here
  CHECK_FALSE(copy.done());
  pending->Complete(kDied);
  CHECK(copy.done());
  CHECK(work.Wait() == copy.Wait());
}

}  // namespace
}  // namespace tutti
