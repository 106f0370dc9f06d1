#include "base/deadline_queue.h"

#include <catch2/catch.hpp>
#include <vector>

#include "base/testing/fake_clock.h"
#include "base/testing/manual_task_runner.h"

namespace tutti {
namespace {

TEST_CASE("deadlines expire in their order, and not when they were called off") {
  FakeClock clock;
  ManualTaskRunner loop(&clock);
  DeadlineQueue queue(&clock, &loop);
  std::vector<int> expired;
  const auto at = [&](int seconds) { return clock.Now() + absl::Seconds(seconds); };
  queue.Add(at(3), [&] { expired.push_back(3); });
  const auto called_off = queue.Add(at(1), [&] { expired.push_back(1); });
  queue.Add(at(2), [&] { expired.push_back(2); });
  queue.Remove(called_off);
  loop.Advance(absl::Milliseconds(1999));
  CHECK(expired.empty());
  loop.Advance(absl::Milliseconds(1));
  CHECK(expired == std::vector<int>{2});
  loop.Advance(absl::Seconds(10));
  CHECK(expired == std::vector<int>{2, 3});
}

TEST_CASE("a thousand deadlines that are called off leave one timer") {
  FakeClock clock;
  ManualTaskRunner loop(&clock);
  DeadlineQueue queue(&clock, &loop);
  for (int i = 0; i < 1000; ++i) {
    queue.Remove(queue.Add(clock.Now() + absl::Minutes(5), [] { FAIL("called off"); }));
  }
  CHECK(queue.size() == 0);
  CHECK(loop.timers() == 1);
  loop.Advance(absl::Hours(1));
  CHECK(loop.timers() == 0);
}

TEST_CASE("what expires may set and call off deadlines; a queue that is gone expires nothing") {
  FakeClock clock;
  ManualTaskRunner loop(&clock);
  int fired = 0;
  {
    DeadlineQueue queue(&clock, &loop);
    auto second = queue.Add(clock.Now() + absl::Seconds(1), [&] { fired += 100; });
    queue.Add(clock.Now() + absl::Milliseconds(1), [&] {
      ++fired;
      queue.Remove(second);
      queue.Add(clock.Now() + absl::Milliseconds(1), [&] { ++fired; });
    });
    loop.Advance(absl::Seconds(5));
    CHECK(fired == 2);
    queue.Add(clock.Now() + absl::Seconds(1), [&] { fired += 100; });
  }
  loop.Advance(absl::Seconds(5));
  CHECK(fired == 2);
}

}  // namespace
}  // namespace tutti
