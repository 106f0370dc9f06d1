#include "daemon/transport/event_loop.h"

#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/failpoint.h"
#include "base/thread.h"

namespace tutti {
namespace {

struct Loop {
  RealClock clock;
  std::unique_ptr<EventLoop> loop = *EventLoop::Create(&clock, "test_loop");
  EventLoop* operator->() const { return loop.get(); }

  // Runs until what has been posted before is done.
  void RunPosted() {
    loop->Stop();
    loop->Run();
  }
};

UniqueFd Event(unsigned initial) { return UniqueFd(eventfd(initial, EFD_CLOEXEC | EFD_NONBLOCK)); }

absl::Duration ProcessorTime() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return absl::DurationFromTimeval(usage.ru_utime) + absl::DurationFromTimeval(usage.ru_stime);
}

TEST_CASE("tasks run in the order of posting, never inside Post") {
  Loop loop;
  std::string order;
  loop->Post([&] {
    order += "a";
    loop->Post([&] { order += "c"; });
    order += "b";
  });
  CHECK(order.empty());
  loop.RunPosted();
  loop.RunPosted();
  CHECK(order == "abc");
}

TEST_CASE("tasks of many threads all run, those of each thread in order") {
  Loop loop;
  constexpr int kThreads = 4;
  constexpr int kTasks = 5000;
  std::vector<std::vector<int>> seen(kThreads);
  {
    std::vector<std::unique_ptr<Thread>> threads;
    std::atomic<int> running{kThreads};
    for (int t = 0; t < kThreads; ++t) {
      threads.push_back(std::make_unique<Thread>("poster", [&, t] {
        for (int i = 0; i < kTasks; ++i) loop->Post([&seen, t, i] { seen[t].push_back(i); });
        if (--running == 0) loop->Stop();
      }));
    }
    loop->Run();
  }
  for (const std::vector<int>& numbers : seen) {
    REQUIRE(numbers.size() == kTasks);
    CHECK(std::is_sorted(numbers.begin(), numbers.end()));
  }
}

TEST_CASE("timers run in the order of their times, not before, from any thread") {
  Loop loop;
  std::string order;
  const MonotonicTime start = loop.clock.Now();
  std::optional<MonotonicTime> last;
  loop->PostAt(start + absl::Milliseconds(30), [&] {
    order += "c";
    last = loop.clock.Now();
    loop->Stop();
  });
  loop->PostAt(start + absl::Milliseconds(10), [&] { order += "a"; });
  const Thread other("other",
                     [&] { loop->PostAt(start + absl::Milliseconds(20), [&] { order += "b"; }); });
  loop->Run();
  CHECK(order == "abc");
  REQUIRE(last.has_value());
  CHECK(*last >= start + absl::Milliseconds(30));
}

TEST_CASE("an idle loop sleeps, with a timer far away and without one") {
  Loop loop;
  const absl::Duration before = ProcessorTime();
  loop->PostAt(loop.clock.Now() + absl::Hours(1), [] {});
  loop->PostAt(loop.clock.Now() + absl::Milliseconds(300), [&] { loop->Stop(); });
  loop->Run();
  CHECK(ProcessorTime() - before < absl::Milliseconds(100));
}

TEST_CASE("a descriptor's callback runs while it is ready, and not after Unwatch") {
  Loop loop;
  const UniqueFd event = Event(1);
  int calls = 0;
  WatchId id = 0;
  id = *loop->Watch(event.get(), EPOLLIN, [&](uint32_t ready) {
    CHECK((ready & EPOLLIN) != 0);
    if (++calls < 3) return;
    loop->Unwatch(id);
    loop->Stop();
  });
  loop->Run();
  loop.RunPosted();
  loop.RunPosted();
  CHECK(calls == 3);
  loop->Unwatch(id);  // unknown by now: ignored
}

TEST_CASE("an event that was found before Unwatch reaches nobody") {
  Loop loop;
  // Two descriptors that are ready in the same turn, each of which unwatches the other, closes it,
  // and watches a new one that is not ready but most likely has the same number.
  std::optional<UniqueFd> events[2] = {Event(1), Event(1)};
  WatchId ids[2] = {};
  int calls = 0;
  int stale = 0;
  for (const int i : {0, 1}) {
    ids[i] = *loop->Watch(events[i]->get(), EPOLLIN, [&, i](uint32_t) {
      ++calls;
      loop->Unwatch(ids[1 - i]);
      events[1 - i].emplace(Event(0));
      CHECK(loop->Watch(events[1 - i]->get(), EPOLLIN, [&](uint32_t) { ++stale; }).ok());
      loop->Unwatch(ids[i]);
      loop->Stop();
    });
  }
  loop->Run();
  loop.RunPosted();
  CHECK(calls == 1);
  CHECK(stale == 0);
}

TEST_CASE("neither tasks nor descriptors starve the other") {
  Loop loop;
  const UniqueFd event = Event(1);
  int events = 0;
  int tasks = 0;
  // A task that always posts the next, and a descriptor that is always ready.
  std::function<void()> again = [&] {
    ++tasks;
    loop->Post(again);
  };
  for (int i = 0; i < 1000; ++i) loop->Post(again);
  const WatchId id = *loop->Watch(event.get(), EPOLLIN, [&](uint32_t) {
    if (++events == 10) loop->Stop();
  });
  bool timer = false;
  loop->PostAt(loop.clock.Now(), [&] { timer = true; });
  loop->Run();
  CHECK(events >= 10);
  CHECK(tasks >= 1000);
  CHECK(timer);
  loop->Unwatch(id);
}

// Has something for so many polls, and counts them.
struct BusyPoller final : Poller {
  bool Poll(uint64_t) override { return ++polls <= busy_polls; }
  bool IsAwake() const override { return awake; }
  bool MaySleep() override {
    ++sleeps;
    return polls > stays_awake_until;
  }
  int64_t polls = 0;
  int64_t busy_polls = 0;
  int64_t stays_awake_until = 0;
  int64_t sleeps = 0;
  bool awake = true;
};

TEST_CASE("a busy poller starves neither tasks nor timers nor descriptors") {
  Loop loop;
  BusyPoller poller;
  poller.busy_polls = INT64_MAX;
  loop->SetPoller(&poller);
  const UniqueFd event = Event(1);
  std::string order;
  WatchId watch = 0;
  watch = *loop->Watch(event.get(), EPOLLIN, [&](uint32_t) {
    loop->Unwatch(watch);
    order += "d";
    loop->Post([&] { order += "t"; });
    loop->PostAt(loop.clock.Now() + absl::Milliseconds(2), [&] {
      order += "T";
      loop->Stop();
    });
  });
  loop->Run();
  CHECK(order == "dtT");
  CHECK(poller.polls > 20);
  CHECK(poller.sleeps == 0);
}

TEST_CASE("a loop does not sleep while its poller may not") {
  Loop loop;
  BusyPoller poller;
  poller.busy_polls = 100;
  poller.stays_awake_until = 150;
  loop->SetPoller(&poller);
  const absl::Duration before = ProcessorTime();
  loop->PostAt(loop.clock.Now() + absl::Milliseconds(200), [&] { loop->Stop(); });
  loop->Run();
  CHECK(poller.polls > 150);
  CHECK(poller.polls < 170);
  CHECK(ProcessorTime() - before < absl::Milliseconds(100));
}

TEST_CASE("a loop that spins looks again and again for a while, then sleeps") {
  Loop loop;
  BusyPoller poller;
  loop->SetPoller(&poller);
  loop->SetSpin(20'000);
  const absl::Duration before = ProcessorTime();
  loop->PostAt(loop.clock.Now() + absl::Milliseconds(300), [&] { loop->Stop(); });
  loop->Run();
  CHECK(poller.polls > 20);
  CHECK(poller.sleeps > 0);
  CHECK(ProcessorTime() - before < absl::Milliseconds(150));
}

TEST_CASE("a loop whose poller sleeps does not spin") {
  Loop loop;
  BusyPoller poller;
  poller.awake = false;
  loop->SetPoller(&poller);
  loop->SetSpin(20'000);
  loop->PostAt(loop.clock.Now() + absl::Milliseconds(100), [&] { loop->Stop(); });
  loop->Run();
  CHECK(poller.polls < 10);
  CHECK(poller.sleeps == 0);
}

// Runs `task` in the calling thread, in the turn of a loop that sleeps; as soon as it does.
void RunInLentTurn(EventLoop* loop, const std::function<void()>& task) {
  bool here = false;
  while (!here) {
    std::atomic<bool> ran{false};
    const pthread_t self = pthread_self();
    loop->PostOrRun([&] {
      here = pthread_equal(self, pthread_self()) != 0;
      if (here) task();
      ran = true;
    });
    while (!ran) sched_yield();
  }
}

TEST_CASE("a loop that sleeps lends its turn to who posts") {
  Loop loop;
  const Thread runner("runner", [&] { loop->Run(); });
  bool current = false;
  RunInLentTurn(loop.loop.get(), [&] {
    current = loop->IsCurrent();
    // Within a turn it is posted, as ever.
    loop->PostOrRun([&] { current = false; });
    CHECK(current);
  });
  CHECK_FALSE(current);
  CHECK_FALSE(loop->IsCurrent());
  loop->Stop();
}

TEST_CASE("PostOrRun: one task at a time, each thread's in order, and none is left") {
  Loop loop;
  constexpr int kThreads = 4;
  constexpr int kTasks = 5000;
  // Not guarded: ThreadSanitizer would see two turns at once.
  std::vector<std::pair<int, int>> seen;
  {
    std::vector<std::unique_ptr<Thread>> threads;
    std::atomic<int> running{kThreads};
    for (int t = 0; t < kThreads; ++t) {
      threads.push_back(std::make_unique<Thread>("poster", [&, t] {
        for (int i = 0; i < kTasks; ++i) {
          const auto task = [&seen, t, i] { seen.emplace_back(t, i); };
          // Now and then a pause, so that the loop sleeps.
          if (i % 16 == 0) {
            RunInLentTurn(loop.loop.get(), task);
          } else {
            loop->PostOrRun(task);
          }
        }
        if (--running == 0) loop->Stop();
      }));
    }
    loop->Run();
  }
  REQUIRE(seen.size() == size_t{kThreads} * kTasks);
  std::vector<int> next(kThreads);
  bool ordered = true;
  for (const auto& [thread, number] : seen) ordered &= number == next[thread]++;
  CHECK(ordered);
}

TEST_CASE("a timer set in a lent turn wakes the loop in time") {
  Loop loop;
  loop->PostAt(loop.clock.Now() + absl::Hours(1), [] {});
  const Thread runner("runner", [&] { loop->Run(); });
  RunInLentTurn(loop.loop.get(), [&] {
    loop->PostAt(loop.clock.Now() + absl::Milliseconds(5), [&] { loop->Stop(); });
  });
}

TEST_CASE("what becomes ready in a lent turn waits for its end") {
  Loop loop;
  const UniqueFd event = Event(0);
  bool in_turn = false;
  WatchId watch = 0;
  watch = *loop->Watch(event.get(), EPOLLIN, [&](uint32_t) {
    CHECK_FALSE(in_turn);
    loop->Unwatch(watch);
    loop->Stop();
  });
  const Thread runner("runner", [&] { loop->Run(); });
  RunInLentTurn(loop.loop.get(), [&] {
    in_turn = true;
    const uint64_t one = 1;
    CHECK(write(event.get(), &one, sizeof(one)) == sizeof(one));
    for (int i = 0; i < 1000; ++i) sched_yield();
    in_turn = false;
  });
}

TEST_CASE("lent turns do not keep the loop from what is due") {
  Loop loop;
  std::atomic<bool> over{false};
  std::vector<std::unique_ptr<Thread>> threads;
  for (int t = 0; t < 4; ++t) {
    threads.push_back(std::make_unique<Thread>("poster", [&] {
      while (!over) loop->PostOrRun([] {});
    }));
  }
  int timers = 0;
  std::function<void()> again = [&] {
    if (++timers == 100) {
      over = true;
      return loop->Stop();
    }
    loop->PostAt(loop.clock.Now() + absl::Milliseconds(1), again);
  };
  loop->PostAt(loop.clock.Now(), again);
  loop->Run();
  threads.clear();
  CHECK(timers == 100);
}

TEST_CASE("tasks that a lent turn leaves behind are not left") {
  Loop loop;
  const Thread runner("runner", [&] { loop->Run(); });
  std::atomic<bool> done{false};
  SECTION("each posts the next, beyond what is lent") {
    int count = 0;
    std::function<void()> again;
    again = [&] {
      if (++count == 1000) {
        done = true;
        return;
      }
      loop->Post(again);
    };
    RunInLentTurn(loop.loop.get(), again);
    while (!done) sched_yield();
  }
  SECTION("more than one turn runs") {
    RunInLentTurn(loop.loop.get(), [&] {
      for (int i = 0; i < 1000; ++i) loop->Post([] {});
      loop->Post([&] { done = true; });
    });
    while (!done) sched_yield();
  }
  loop->Stop();
}

TEST_CASE("a first timer, set in a lent turn, wakes a loop that sleeps for ever") {
  Loop loop;
  const Thread runner("runner", [&] { loop->Run(); });
  RunInLentTurn(loop.loop.get(), [&] {
    loop->PostAt(loop.clock.Now() + absl::Milliseconds(5), [&] { loop->Stop(); });
  });
}

TEST_CASE("a task that is posted as the loop makes ready to sleep is not left") {
  struct Posting final : Poller {
    bool Poll(uint64_t) override { return false; }
    bool IsAwake() const override { return true; }
    bool MaySleep() override {
      if (const auto once = std::exchange(post, nullptr)) once();
      return true;
    }
    std::function<void()> post;
  };
  Loop loop;
  Posting poller;
  poller.post = [&] { loop->Stop(); };
  loop->SetPoller(&poller);
  loop->Run();
}

TEST_CASE("a loop that was woken by a descriptor lends nothing") {
  Loop loop;
  const UniqueFd event = Event(0);
  std::atomic<bool> ran{false};
  bool ran_here = false;
  WatchId watch = 0;
  watch = *loop->Watch(event.get(), EPOLLIN, [&](uint32_t) {
    {
      const Thread other("other", [&] { loop->PostOrRun([&] { ran = true; }); });
    }
    ran_here = ran;
    loop->Unwatch(watch);
    loop->Stop();
  });
  {
    const Thread writer(
        "writer", [&] { RunInLentTurn(loop.loop.get(), [&] { eventfd_write(event.get(), 1); }); });
    loop->Run();
  }
  CHECK_FALSE(ran_here);
}

TEST_CASE("Stop in a lent turn ends Run") {
  Loop loop;
  const Thread runner("runner", [&] { loop->Run(); });
  RunInLentTurn(loop.loop.get(), [&] { loop->Stop(); });
}

TEST_CASE("a lent turn that gives the poller work wakes the loop") {
  Loop loop;
  BusyPoller poller;
  poller.awake = false;
  poller.polls = 1;
  loop->SetPoller(&poller);
  const Thread runner("runner", [&] { loop->Run(); });
  int64_t polls = 0;
  RunInLentTurn(loop.loop.get(), [&] {
    polls = poller.polls;
    poller.awake = true;
    poller.stays_awake_until = poller.polls + 10;
  });
  RunInLentTurn(loop.loop.get(), [&] {
    CHECK(poller.polls > polls + 10);
    loop->Stop();
  });
}

TEST_CASE("the loop belongs to its maker, then to whoever runs it") {
  Loop loop;
  CHECK(loop->IsCurrent());
  std::atomic<bool> current_in_task{false};
  {
    const Thread runner("runner", [&] { loop->Run(); });
    loop->Post([&] { current_in_task = loop->IsCurrent(); });
    loop->Stop();
  }
  CHECK(current_in_task);
  CHECK_FALSE(loop->IsCurrent());
}

TEST_CASE("tasks that are left are dropped, even if dropping one posts another") {
  int dropped = 0;
  {
    Loop loop;
    EventLoop* const raw = loop.loop.get();
    const auto count = [&dropped, raw](int* p) {
      ++dropped;
      // As a mapping does when the last work that names it goes.
      if (*p == 1)
        raw->Post([keep = std::shared_ptr<int>(new int(0), [&dropped](int* q) {
                     ++dropped;
                     delete q;
                   })] {});
      delete p;
    };
    loop->Post([keep = std::shared_ptr<int>(new int(1), count)] { FAIL("ran"); });
    loop->PostAt(loop.clock.Now(),
                 [keep = std::shared_ptr<int>(new int(0), count)] { FAIL("ran"); });
  }
  CHECK(dropped == 3);
}

TEST_CASE("RunPostedTasks runs what is there, and what that posts") {
  Loop loop;
  int ran = 0;
  loop->Post([&] {
    ++ran;
    loop->Post([&] { ++ran; });
  });
  loop->PostAt(loop.clock.Now(), [&] { FAIL("a timer ran"); });
  loop->RunPostedTasks();
  CHECK(ran == 2);
}

TEST_CASE("a test can hold the loop") {
  if (!kFailpointsBuiltIn) return;
  Loop loop;
  SetFailpoint("test_loop.task", FailpointAction::kPause, 1);
  std::atomic<bool> ran{false};
  const Thread runner("runner", [&] { loop->Run(); });
  loop->Post([&] { ran = true; });
  while (SetFailpoint("test_loop.task", FailpointAction::kQuery, 0).held == 0) {
  }
  CHECK_FALSE(ran);
  loop->Post([&] { loop->Stop(); });
  SetFailpoint("test_loop.task", FailpointAction::kOff, 0);
}

}  // namespace
}  // namespace tutti
