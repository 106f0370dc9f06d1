// Where code runs: a sequence of tasks, injected so that tests can step it by hand.
#pragma once

#include <functional>
#include <utility>

#include "base/clock.h"

namespace tutti {

// Runs tasks. A runner with one thread (the control loop) runs them in the order of posting, one at
// a time; a pool promises neither.
//
// Thread-safe. Whoever posts must make sure that what the task refers to is alive when it runs;
// runners finish or drop their tasks before they are destroyed.
class TaskRunner {
 public:
  virtual ~TaskRunner() = default;

  // Runs `task` soon. Never runs it inside Post.
  virtual void Post(std::function<void()> task) = 0;
};

// A runner with one thread at a time, and timers: what the core lives on.
class SequencedTaskRunner : public TaskRunner {
 public:
  // Runs `task` at `when` or soon after. There is no way to cancel: tasks check whether they are
  // still wanted.
  virtual void PostAt(MonotonicTime when, std::function<void()> task) = 0;

  // As Post, but may run `task`, and whatever else is due, within the call: a runner that sleeps
  // lends its turn to the caller, which saves waking a thread. So the caller holds no lock, and has
  // the time.
  virtual void PostOrRun(std::function<void()> task) { Post(std::move(task)); }

  // True if the caller runs on this runner's thread, or has its turn; what classes that live there
  // assert.
  virtual bool IsCurrent() const = 0;
};

}  // namespace tutti
