#include "base/testing/manual_task_runner.h"

#include <catch2/catch.hpp>
#include <vector>

namespace tutti {
namespace {

TEST_CASE("Tasks run in order, one step at a time, and never inside Post") {
  FakeClock clock;
  ManualTaskRunner runner(&clock);
  std::vector<int> ran;
  runner.Post([&] {
    ran.push_back(1);
    runner.Post([&] { ran.push_back(3); });
  });
  runner.Post([&] { ran.push_back(2); });
  CHECK(ran.empty());
  CHECK(runner.pending() == 2);
  CHECK(runner.RunOne());
  CHECK(ran == std::vector<int>{1});
  runner.RunUntilIdle();
  CHECK(ran == std::vector<int>{1, 2, 3});
  CHECK(!runner.RunOne());
}

TEST_CASE("Timers fire in the order of their times, each at its own") {
  FakeClock clock;
  ManualTaskRunner runner(&clock);
  const MonotonicTime start = clock.Now();
  std::vector<absl::Duration> fired;
  const auto record = [&] { fired.push_back(clock.Now() - start); };
  runner.PostAt(start + absl::Seconds(3), record);
  runner.PostAt(start + absl::Seconds(1), [&] {
    record();
    // Set while time passes, and due before it has passed.
    runner.PostAt(clock.Now() + absl::Seconds(1), [&] { runner.Post(record); });
  });
  runner.PostAt(start + absl::Seconds(10), record);
  runner.RunUntilIdle();
  CHECK(fired.empty());
  runner.Advance(absl::Seconds(5));
  CHECK(fired == std::vector<absl::Duration>{absl::Seconds(1), absl::Seconds(2), absl::Seconds(3)});
  CHECK(clock.Now() - start == absl::Seconds(5));
  runner.Advance(absl::Seconds(5));
  CHECK(fired.back() == absl::Seconds(10));
}

TEST_CASE("A timer that is late fires now, and time does not run backwards") {
  FakeClock clock;
  ManualTaskRunner runner(&clock);
  const MonotonicTime start = clock.Now();
  clock.Advance(absl::Seconds(5));
  MonotonicTime fired;
  runner.PostAt(start + absl::Seconds(1), [&] { fired = clock.Now(); });
  runner.Advance(absl::ZeroDuration());
  CHECK(fired == start + absl::Seconds(5));
}

}  // namespace
}  // namespace tutti
