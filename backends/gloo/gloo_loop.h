// Runs tasks on the thread of Gloo's loop, which moves the bytes.
//
// Whoever sends or asks for a message holds the lock of its connection meanwhile, and writes as
// much as the kernel takes. The loop needs that lock for each event; if it is taken, the loop asks
// the kernel for the same event again, at once: some 70,000 times in one allreduce of 64 MiB. And
// if the loop has woken up on the processor of who holds the lock, both wait until the loop's time
// slice is over, for milliseconds. What is posted here never meets the loop: it is the loop's.
//
// Thread-safe. Outlives the tasks.
#pragma once

#include <gloo/transport/tcp/loop.h>

#include <deque>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/unique_fd.h"

namespace gloo::transport {
class Device;
namespace tcp {
class Device;
}  // namespace tcp
}  // namespace gloo::transport

namespace tutti {

class GlooLoop final : private gloo::transport::tcp::Handler {
 public:
  class Task {
   public:
    virtual ~Task() = default;
    // On the loop's thread, once. Never waits: all connections of all groups do.
    virtual void Run() = 0;
  };

  // `device`: of Gloo's TCP. Fails with kResourceExhausted if there are no more descriptors.
  static absl::StatusOr<std::shared_ptr<GlooLoop>> Create(
      std::shared_ptr<gloo::transport::Device> device);
  ~GlooLoop() override;

  const std::shared_ptr<gloo::transport::Device>& device() const { return device_; }

  // Runs tasks in the order of posting. The caller keeps `task` until it has run, or is cancelled.
  void Post(Task* task) ABSL_LOCKS_EXCLUDED(mutex_);

  // When this returns `task` is used no more, whether it has run or not. Not to be called by tasks.
  void Cancel(Task* task) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  GlooLoop(std::shared_ptr<gloo::transport::Device> device, UniqueFd event);

  void handleEvents(int events) override;

  const std::shared_ptr<gloo::transport::Device> device_;
  gloo::transport::tcp::Device* const tcp_;
  const UniqueFd event_;  // an eventfd: something has been posted
  bool named_ = false;    // the loop's

  Mutex mutex_;
  CondVar ran_;
  std::deque<Task*> posted_ ABSL_GUARDED_BY(mutex_);
  Task* running_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace tutti
