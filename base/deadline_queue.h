// Things that must happen at a time unless they are called off before: deadlines of works and
// joins.
//
// Most deadlines are called off microseconds after they were set, so both are cheap, and the loop
// gets one timer for the earliest, not one for each. Lives on the control loop.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "base/clock.h"
#include "base/task_runner.h"

namespace tutti {

class DeadlineQueue {
  using Entries = std::multimap<MonotonicTime, std::function<void()>>;

 public:
  // Valid until it has expired or was called off.
  using Handle = Entries::iterator;

  // Both must outlive this.
  DeadlineQueue(const Clock* clock, SequencedTaskRunner* loop);

  // Runs `expired` at `when`, unless Remove is called first.
  Handle Add(MonotonicTime when, std::function<void()> expired);
  void Remove(Handle handle);

  size_t size() const { return entries_.size(); }

 private:
  void Arm();
  void Expire();

  const Clock* const clock_;
  SequencedTaskRunner* const loop_;
  Entries entries_;
  // The time of the earliest timer that the loop holds.
  MonotonicTime armed_ = absl::InfiniteFuture();
  // Timers can't be cancelled: those that outlive the queue find this gone.
  std::shared_ptr<DeadlineQueue*> self_;
};

}  // namespace tutti
