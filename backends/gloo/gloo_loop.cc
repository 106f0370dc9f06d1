#include "backends/gloo/gloo_loop.h"

#include <gloo/transport/tcp/device.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace tutti {

absl::StatusOr<std::shared_ptr<GlooLoop>> GlooLoop::Create(
    std::shared_ptr<gloo::transport::Device> device) {
  UniqueFd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event.valid()) {
    return absl::ResourceExhaustedError(absl::StrCat("eventfd: ", std::strerror(errno)));
  }
  return std::shared_ptr<GlooLoop>(new GlooLoop(std::move(device), std::move(event)));
}

GlooLoop::GlooLoop(std::shared_ptr<gloo::transport::Device> device, UniqueFd event)
    : device_(std::move(device)),
      tcp_(dynamic_cast<gloo::transport::tcp::Device*>(device_.get())),
      event_(std::move(event)) {
  TUTTI_CHECK(tcp_ != nullptr);
  tcp_->registerDescriptor(event_.get(), EPOLLIN, this);
}

GlooLoop::~GlooLoop() { tcp_->unregisterDescriptor(event_.get(), this); }

void GlooLoop::Post(Task* task) {
  {
    MutexLock lock(&mutex_);
    posted_.push_back(task);
    // Else the loop is at it, or has been told.
    if (posted_.size() > 1 || running_ != nullptr) return;
  }
  const uint64_t one = 1;
  TUTTI_CHECK(write(event_.get(), &one, sizeof(one)) == sizeof(one));
}

void GlooLoop::Cancel(Task* task) {
  MutexLock lock(&mutex_);
  std::erase(posted_, task);
  while (running_ == task) ran_.Wait(&mutex_);
}

void GlooLoop::handleEvents(int) {
  // Gloo has made its thread on one of ours, and it has that one's name.
  if (!std::exchange(named_, true)) pthread_setname_np(pthread_self(), "gloo");
  uint64_t count = 0;
  // Nothing is there if what was posted has been cancelled, or has run, in the meantime.
  if (read(event_.get(), &count, sizeof(count)) != sizeof(count)) TUTTI_CHECK(errno == EAGAIN);
  MutexLock lock(&mutex_);
  while (!posted_.empty()) {
    Task* const task = posted_.front();
    posted_.pop_front();
    running_ = task;
    mutex_.Unlock();
    task->Run();
    mutex_.Lock();
    running_ = nullptr;
    ran_.SignalAll();
  }
}

}  // namespace tutti
