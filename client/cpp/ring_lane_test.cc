// The client's side of a ring, with the daemon's played by the test.
#include "client/cpp/ring_lane.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "base/thread.h"
#include "client/cpp/testing/ring_daemon.h"
#include "client/cpp/work.h"

namespace tutti {
namespace {

constexpr uint32_t kEntries = 8;

// A lane and the other side of it.
struct Scene {
  explicit Scene(uint64_t in_flight_max = kEntries, uint64_t spin_us = 20) : daemon(kEntries) {
    RingLane::Options options;
    options.region = daemon.region();
    options.doorbell = daemon.TakeDoorbell();
    options.in_flight_max = in_flight_max;
    options.spin_us = spin_us;
    options.broken = [this](const Failure& failure) {
      broken = failure;
      lane->End(failure);
    };
    lane = std::make_shared<RingLane>(std::move(options));
  }
  ~Scene() {
    lane->End({.cause = Cause::kSessionClosed, .message = "the scene ends"});
    lane->Join();
  }

  Work Submit(absl::Duration patience = absl::Seconds(20)) {
    auto pending = std::make_shared<PendingWork>(PendingWork::Options{.patience = patience});
    lane->Submit(Request{.membership = 3, .kind = CollectiveKind::kBarrier}, pending);
    return Work(pending);
  }

  RingDaemon daemon;
  std::shared_ptr<RingLane> lane;
  std::optional<Failure> broken;
};

std::string MessageOf(const Work& work) {
  const std::optional<Failure> failure = work.Wait();
  return failure.has_value() ? failure->message : "";
}

TEST_CASE("a work goes out with its fields, and ends with its completion") {
  Scene scene;
  const Work work = scene.Submit();
  const SubmissionEntry entry = scene.daemon.Take();
  CHECK(entry.number == 1);
  CHECK(entry.membership == 3);
  CHECK(entry.kind == static_cast<uint8_t>(CollectiveKind::kBarrier));
  CHECK(entry.inputs == 0);
  CHECK(entry.outputs == 0);
  CHECK_FALSE(work.done());
  CHECK_FALSE(work.WaitFor(absl::Milliseconds(1)));
  scene.daemon.Complete(1);
  CHECK(work.done());
  CHECK_FALSE(work.Wait().has_value());
  CHECK(scene.lane->last_number() == 1);
}

TEST_CASE("completions come in any order of numbers, and failures with what they say") {
  Scene scene;
  const Work first = scene.Submit();
  const Work second = scene.Submit();
  const Work third = scene.Submit();
  scene.daemon.Fail(3, {.cause = Cause::kRankDied, .message = "rank 2 died"}, 5);
  CHECK(MessageOf(third) == "rank 2 died");
  CHECK_FALSE(first.done());
  scene.daemon.Complete(1);
  scene.daemon.Complete(2);
  CHECK(MessageOf(second).empty());
  CHECK(MessageOf(first).empty());
}

TEST_CASE("who takes a failure rings, so that its slot can be used again") {
  Scene scene;
  const Work work = scene.Submit();
  scene.daemon.Take();
  CHECK(scene.daemon.MaySleep());
  scene.daemon.Fail(1, {.cause = Cause::kRankDied, .message = "x"}, 0);
  CHECK(MessageOf(work) == "x");
  CHECK(scene.daemon.WasRung());
}

TEST_CASE("no more works than may be are in flight; the next one waits for room") {
  Scene scene(2);
  const Work first = scene.Submit();
  const Work second = scene.Submit();
  CHECK(MessageOf(scene.Submit(absl::Milliseconds(20))) ==
        "2 operations are in flight, and none has ended; works_in_flight_max is the daemon's "
        "setting");
  scene.daemon.Complete(2);
  const Work third = scene.Submit();
  CHECK(second.done());
  CHECK(scene.lane->last_number() == 3);
  CHECK_FALSE(third.done());
}

TEST_CASE("a sleeper is woken by the completion, by the end, and by the daemon's death") {
  for (const uint64_t spin_us : {0, 50}) {
    Scene scene(kEntries, spin_us);
    const Work work = scene.Submit();
    std::optional<Thread> other;
    SECTION("completion") {
      other.emplace("other", [&] {
        scene.daemon.AwaitSleeper();
        scene.daemon.Complete(1);
      });
      CHECK(MessageOf(work).empty());
    }
    SECTION("end") {
      other.emplace("other", [&] {
        scene.daemon.AwaitSleeper();
        scene.lane->End({.cause = Cause::kNodeLost, .message = "lost"});
      });
      CHECK(MessageOf(work) == "lost");
    }
    SECTION("death, told by nobody") {
      other.emplace("other", [&] {
        scene.daemon.AwaitSleeper();
        scene.daemon.HangUp();
      });
      CHECK(MessageOf(work) == "the daemon has given up the lane; connect again");
    }
    SECTION("death, told by the session socket") {
      other.emplace("other", [&] {
        scene.daemon.AwaitSleeper();
        scene.daemon.HangUp();
        scene.lane->End({.cause = Cause::kNodeLost, .message = "lost"});
      });
      CHECK(MessageOf(work) == "lost");
      CHECK_FALSE(scene.broken.has_value());
    }
    other.reset();
  }
}

TEST_CASE("what was completed before the end has ended well") {
  Scene scene;
  const Work first = scene.Submit();
  const Work second = scene.Submit();
  scene.daemon.Complete(1);
  scene.daemon.HangUp();
  scene.lane->End({.cause = Cause::kNodeLost, .message = "lost"});
  CHECK(MessageOf(first).empty());
  CHECK(MessageOf(second) == "lost");
  CHECK(MessageOf(scene.Submit()) == "lost");
}

TEST_CASE("a daemon that breaks the protocol ends the lane") {
  Scene scene;
  const Work work = scene.Submit();
  std::string expected;
  SECTION("a serial is skipped") {
    scene.daemon.Put({.serial = 2, .number = 1});
    expected = "the daemon sent completion 2 of work 1 after completion 0";
  }
  SECTION("a work that is not in flight") {
    scene.daemon.Put({.serial = 1, .number = 9});
    expected = "the daemon sent completion 1 of work 9 after completion 0";
  }
  SECTION("a tail that can't be") {
    *scene.daemon.region().completions().tail = 1000;
    expected = "the tail of the completion queue is ahead of what fits into it";
  }
  CHECK(MessageOf(work) == expected);
  REQUIRE(scene.broken.has_value());
  CHECK(scene.broken->cause == Cause::kProtocol);
  CHECK(MessageOf(scene.Submit()) == expected);
}

TEST_CASE("a failure that can't be read fails its work, and no other") {
  Scene scene;
  const Work first = scene.Submit();
  const Work second = scene.Submit();
  const Work third = scene.Submit();
  scene.daemon.Put({.serial = 1, .number = 1, .failure = 77, .failure_bytes = 4});
  scene.daemon.Put({.serial = 2, .number = 2, .failure = 1, .failure_bytes = 1 << 30});
  scene.daemon.Put({.serial = 3, .number = 3});
  CHECK(first.Wait()->cause == Cause::kProtocol);
  CHECK(second.Wait()->cause == Cause::kProtocol);
  CHECK(MessageOf(third).empty());
}

TEST_CASE("many threads submit and wait, each for its own and for others'") {
  for (const uint64_t spin_us : {0, 50}) {
    Scene scene(4, spin_us);
    scene.daemon.CompleteAll();
    std::atomic<int> failed = 0;
    std::vector<std::unique_ptr<Thread>> threads;
    for (int t = 0; t < 6; ++t) {
      threads.push_back(std::make_unique<Thread>("user", [&scene, &failed, t] {
        std::vector<Work> kept;
        for (int i = 0; i < 300; ++i) {
          kept.push_back(scene.Submit());
          if (i % (t + 1) != 0) continue;
          for (const Work& work : kept) failed += work.Wait().has_value() ? 1 : 0;
          kept.clear();
        }
        for (const Work& work : kept) failed += work.Wait().has_value() ? 1 : 0;
      }));
    }
    threads.clear();
    CHECK(failed == 0);
    CHECK(scene.lane->last_number() == 6 * 300);
    CHECK_FALSE(scene.broken.has_value());
    scene.daemon.Stop();
  }
}

TEST_CASE("the end comes while many wait") {
  for (int round = 0; round < 20; ++round) {
    Scene scene(kEntries, 20);
    const Work work = scene.Submit();
    std::vector<std::unique_ptr<Thread>> threads;
    std::atomic<int> told = 0;
    for (int t = 0; t < 4; ++t) {
      threads.push_back(std::make_unique<Thread>(
          "user", [&work, &told] { told += MessageOf(work) == "over" ? 1 : 0; }));
    }
    threads.push_back(std::make_unique<Thread>("ender", [&scene] {
      scene.lane->End({.cause = Cause::kSessionClosed, .message = "over"});
    }));
    threads.clear();
    CHECK(told == 4);
  }
}

TEST_CASE("a work may outlive its lane") {
  std::optional<Work> work;
  {
    Scene scene;
    work = scene.Submit();
  }
  CHECK(MessageOf(*work) == "the scene ends");
}

}  // namespace
}  // namespace tutti
