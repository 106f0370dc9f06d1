// A fixed number of threads that run tasks in no particular order.
//
// Each keeps to its share of the processors that the process may use, if there are that many: what
// two threads share must not wait for both to run on one processor. (The kernel puts a thread that
// is woken where its waker runs, if no idle processor shares a cache with that; virtual machines
// often say that none does.)
//
// Thread-safe. Destroying it runs what has been posted, then joins; nobody may post meanwhile but
// the tasks themselves.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <list>
#include <string>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "base/task_runner.h"
#include "base/thread.h"

namespace tutti {

class WorkerPool final : public TaskRunner {
 public:
  // REQUIRES: threads > 0
  WorkerPool(const std::string& name, size_t threads);
  ~WorkerPool() override;

  void Post(std::function<void()> task) override;

  size_t threads() const { return threads_.size(); }

 private:
  void Work();
  // Of the thread with this number.
  void KeepToShare(size_t index) const;

  const size_t threads_max_;
  Mutex mutex_;
  CondVar posted_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::list<Thread> threads_;
};

}  // namespace tutti
