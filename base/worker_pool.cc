#include "base/worker_pool.h"

#include <sched.h>

#include <utility>

#include "base/check.h"

namespace tutti {

WorkerPool::WorkerPool(const std::string& name, size_t threads) : threads_max_(threads) {
  TUTTI_CHECK(threads > 0);
  for (size_t i = 0; i < threads; ++i) {
    threads_.emplace_back(name, [this, i] {
      KeepToShare(i);
      Work();
    });
  }
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

void WorkerPool::KeepToShare(size_t index) const {
  // Who has all of them follows when the kernel allows more; a share stays what it is.
  if (threads_max_ == 1) return;
  cpu_set_t allowed;
  // Unknown if there are more than CPU_SETSIZE; then the kernel decides alone.
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  if (static_cast<size_t>(CPU_COUNT(&allowed)) < threads_max_) return;
  cpu_set_t share;
  CPU_ZERO(&share);
  size_t seen = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed) && seen++ % threads_max_ == index) CPU_SET(cpu, &share);
  }
  // If the processors have changed meanwhile it stays as it was.
  sched_setaffinity(0, sizeof(share), &share);
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
