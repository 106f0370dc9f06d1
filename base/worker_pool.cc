#include "base/worker_pool.h"

#include <utility>

#include "base/check.h"

namespace tutti {

WorkerPool::WorkerPool(const std::string& name, size_t threads) {
  TUTTI_CHECK(threads > 0);
  for (size_t i = 0; i < threads; ++i) threads_.emplace_back(name, [this] { Work(); });
}

WorkerPool::~WorkerPool() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    posted_.SignalAll();
  }
  threads_.clear();
}

void WorkerPool::Post(std::function<void()> task) {
  MutexLock lock(&mutex_);
  tasks_.push_back(std::move(task));
  posted_.Signal();
}

void WorkerPool::Work() {
  while (true) {
    std::function<void()> task;
    {
      MutexLock lock(&mutex_);
      while (tasks_.empty() && !stopping_) posted_.Wait(&mutex_);
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

}  // namespace tutti
