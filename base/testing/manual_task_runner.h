// A runner whose tasks run when a test says so: no thread, no wait, every interleaving on demand.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <utility>

#include "base/task_runner.h"
#include "base/testing/fake_clock.h"

namespace tutti {

// Not thread-safe: the test's thread is the runner's.
class ManualTaskRunner final : public SequencedTaskRunner {
 public:
  // `clock` must outlive this.
  explicit ManualTaskRunner(FakeClock* clock) : clock_(clock) {}

  void Post(std::function<void()> task) override { tasks_.push_back(std::move(task)); }
  void PostAt(MonotonicTime when, std::function<void()> task) override {
    timers_.emplace(when, std::move(task));
  }
  bool IsCurrent() const override { return true; }

  size_t pending() const { return tasks_.size(); }
  size_t timers() const { return timers_.size(); }

  // Forgets the oldest task without running it; false if there is none.
  bool Drop() {
    if (tasks_.empty()) return false;
    tasks_.pop_front();
    return true;
  }

  // Runs the oldest task; false if there is none.
  bool RunOne() {
    if (tasks_.empty()) return false;
    auto task = std::move(tasks_.front());
    tasks_.pop_front();
    task();
    return true;
  }

  // Runs tasks, and those they post, until none is left. Timers stay.
  void RunUntilIdle() {
    while (RunOne()) {
    }
  }

  // Moves the clock timer by timer, running what becomes due, until `by` has passed.
  void Advance(absl::Duration by) {
    const MonotonicTime end = clock_->Now() + by;
    RunUntilIdle();
    while (!timers_.empty() && timers_.begin()->first <= end) {
      auto timer = timers_.extract(timers_.begin());
      if (timer.key() > clock_->Now()) clock_->Advance(timer.key() - clock_->Now());
      timer.mapped()();
      RunUntilIdle();
    }
    clock_->Advance(end - clock_->Now());
  }

 private:
  FakeClock* const clock_;
  std::deque<std::function<void()>> tasks_;
  std::multimap<MonotonicTime, std::function<void()>> timers_;
};

}  // namespace tutti
