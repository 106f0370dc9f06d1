// Who reads the stream, and when: the lane against a scripted daemon's gRPC. What streams that
// break do is in client_test.cc.
#include "client/cpp/stream_lane.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/socket_paths.h"
#include "base/thread.h"
#include "client/cpp/testing/fake_daemon.h"
#include "client/cpp/work.h"

namespace tutti {
namespace {

using Mind = FakeDaemon::Mind;

constexpr absl::Duration kLong = absl::Seconds(60);

struct Scene {
  explicit Scene(FakeDaemon::Script script)
      : daemon(std::move(script)), rpc(MakeChannel(ClientSocketPath(daemon.dir())), "token") {
    lane = std::make_shared<StreamLane>(
        StreamLane::Options{.rpc = &rpc, .in_flight_max = 4, .ended = [](const Failure&) {}});
    REQUIRE_FALSE(lane->WaitAttached(std::chrono::seconds(10)).has_value());
  }
  ~Scene() {
    End("the scene ends");
    lane->Join();
  }

  void End(const std::string& why) { lane->End({.cause = Cause::kSessionClosed, .message = why}); }

  Work Submit(absl::Duration patience = kLong) {
    auto pending = std::make_shared<PendingWork>(PendingWork::Options{.patience = patience});
    lane->Submit(Request{.membership = 3, .kind = CollectiveKind::kBarrier}, pending);
    return Work(pending);
  }

  FakeDaemon daemon;
  Rpc rpc;
  std::shared_ptr<StreamLane> lane;
};

FakeDaemon::Script Holding(uint64_t number) {
  return {.mind = [number](const v1::Work& work) {
    return work.number() == number ? Mind::kHold : Mind::kDone;
  }};
}

std::string MessageOf(const Work& work) {
  const std::optional<Failure> failure = work.Wait();
  return failure.has_value() ? failure->message : "";
}

TEST_CASE("one wait after the other, and looks without waiting") {
  Scene scene({});
  for (int i = 0; i < 100; ++i) {
    const Work work = scene.Submit();
    if (i % 10 == 0) {
      while (!work.done()) {
      }
    }
    CHECK(MessageOf(work).empty());
  }
  CHECK(scene.daemon.streams() == 1);
}

TEST_CASE("a wait that ends early does not break the stream") {
  Scene scene(Holding(2));
  CHECK(MessageOf(scene.Submit()).empty());
  const Work held = scene.Submit();
  CHECK_FALSE(held.WaitFor(absl::Milliseconds(50)));
  scene.daemon.AwaitReceived(2);
  scene.daemon.Release();
  CHECK(MessageOf(held).empty());
  CHECK(scene.daemon.streams() == 1);
}

TEST_CASE("who reads ends the works of others, and is followed by one of them") {
  Scene scene(Holding(1));
  const Work held = scene.Submit();
  std::string message = "not told";
  Thread waiter("waiter", [&] { message = MessageOf(held); });
  for (int i = 0; i < 50; ++i) CHECK(MessageOf(scene.Submit()).empty());
  scene.daemon.Release();
  CHECK(held.WaitFor(kLong));
  CHECK(MessageOf(held).empty());
}

TEST_CASE("a daemon that never answers costs a reader its patience, and the stream") {
  Scene scene(Holding(2));
  CHECK(MessageOf(scene.Submit()).empty());
  // The thread leaves the stream to those who wait, as there was one.
  const Work held = scene.Submit(absl::Milliseconds(300));
  CHECK(held.Wait()->cause == Cause::kDeadline);
  scene.daemon.Release();
  // The next stream brings what this one did not.
  CHECK(held.WaitFor(kLong));
  CHECK(MessageOf(scene.Submit()).empty());
}

TEST_CASE("who gives up waiting for room does not break the stream") {
  Scene scene({.mind = [](const v1::Work&) { return Mind::kHold; }});
  std::vector<Work> held;
  for (int i = 0; i < 4; ++i) held.push_back(scene.Submit());
  CHECK(scene.Submit(absl::Milliseconds(100)).Wait()->cause == Cause::kLimit);
  scene.daemon.Release();
  for (const Work& work : held) CHECK(MessageOf(work).empty());
  CHECK(scene.daemon.streams() == 1);
}

TEST_CASE("many threads submit and wait, each for its own and for others'") {
  Scene scene({});
  std::atomic<int> failed = 0;
  {
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
  }
  CHECK(failed == 0);
  CHECK(scene.lane->last_number() == 6 * 300);
  CHECK(scene.daemon.streams() == 1);
}

TEST_CASE("the end comes while many wait") {
  for (int round = 0; round < 10; ++round) {
    Scene scene(Holding(1));
    const Work work = scene.Submit();
    std::atomic<int> told = 0;
    {
      std::vector<std::unique_ptr<Thread>> threads;
      for (int t = 0; t < 4; ++t) {
        threads.push_back(std::make_unique<Thread>(
            "user", [&work, &told] { told += MessageOf(work) == "over" ? 1 : 0; }));
      }
      threads.push_back(std::make_unique<Thread>("ender", [&scene] { scene.End("over"); }));
    }
    CHECK(told == 4);
  }
}

TEST_CASE("what the daemon had said before the end is taken, and the end is quick") {
  for (int round = 0; round < 10; ++round) {
    Scene scene(Holding(3));
    CHECK(MessageOf(scene.Submit()).empty());
    // The lane's thread leaves the stream to those who wait, by now and for a while.
    CHECK(MessageOf(scene.Submit()).empty());
    const Work held = scene.Submit();
    scene.daemon.AwaitReceived(3);
    scene.daemon.Release();
    scene.End("over");
    CHECK(MessageOf(held).empty());
  }
}

TEST_CASE("a daemon that breaks the protocol is told so, whoever reads it") {
  for (const bool waiter_reads : {false, true}) {
    Scene scene({.mind = [](const v1::Work& work) {
      return work.number() == 2 ? Mind::kInvent : Mind::kDone;
    }});
    if (waiter_reads) CHECK(MessageOf(scene.Submit()).empty());
    Work last = scene.Submit();
    if (!waiter_reads) last = scene.Submit();
    const std::optional<Failure> failure = last.Wait();
    REQUIRE(failure.has_value());
    CHECK(failure->cause == Cause::kProtocol);
  }
}

TEST_CASE("a work may outlive its lane") {
  std::optional<Work> work;
  {
    Scene scene(Holding(1));
    work = scene.Submit();
  }
  CHECK(MessageOf(*work) == "the scene ends");
}

}  // namespace
}  // namespace tutti
