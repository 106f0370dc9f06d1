// A fixed number of threads that run tasks in no particular order.
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

  Mutex mutex_;
  CondVar posted_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::list<Thread> threads_;
};

}  // namespace tutti
