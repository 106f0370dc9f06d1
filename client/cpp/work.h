// The handle of one submitted operation.
//
// Thread-safe. A handle: copies name the same operation, and dropping them all does not stop it.
#pragma once

#include <memory>
#include <optional>
#include <utility>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/failure.h"

namespace tutti {
inline namespace client {

class PendingWork;

class Work {
 public:
  // Groups make works (Group::AllReduce).
  explicit Work(std::shared_ptr<PendingWork> pending) : pending_(std::move(pending)) {}

  // Waits for the end: nothing if it ended well, else why not, the same at every call. The daemon
  // ends each operation at its deadline at the latest; should the daemon itself be stopped, this
  // fails 10 s after that with kDeadline.
  //
  // An operation on plain memory (tensor_ref.h) writes its result here, at the first call.
  [[nodiscard]] std::optional<Failure> Wait() const;

  // Waits at most `timeout`: true if the operation has ended, and Wait will not block. False only
  // stops the waiting; the operation goes on.
  [[nodiscard]] bool WaitFor(absl::Duration timeout) const;

  // True if it has ended.
  bool done() const { return WaitFor(absl::ZeroDuration()); }

  // When the verdict arrived here. REQUIRES: done()
  MonotonicTime completed_at() const;

 private:
  // Shared with the connection, which completes it.
  std::shared_ptr<PendingWork> pending_;
};

}  // namespace client
}  // namespace tutti
