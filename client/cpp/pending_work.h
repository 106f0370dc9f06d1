// What a Work handle points to: one operation, from its submission to its verdict.
//
// Thread-safe. Shared by the user's handles and, until it completes, the work queue.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/failure.h"
#include "client/cpp/tensor.h"

namespace tutti {
inline namespace client {

// Longer than any deadline that a daemon allows by default: no wait is without an end.
inline constexpr absl::Duration kWaitMax = absl::Hours(25);

class PendingWork {
 public:
  // Everything that is fixed before the work is submitted.
  struct Options {
    // Kept alive until completion: the daemon reads and writes them.
    std::vector<Tensor> tensors;
    // Runs at the first Wait after success, on the waiter's thread.
    std::function<void()> copy_back;
    // How it ends for the caller, whatever the daemon says: it could not be submitted as meant.
    std::optional<Failure> refused;
    // For failures that nobody has put a name to: the session's end, above all.
    std::string group;
    uint64_t epoch = 0;
    // How long Wait trusts the daemon: its deadline and some grace.
    absl::Duration patience = kWaitMax;
  };

  explicit PendingWork(Options options);

  // The verdict has arrived. Later ones are ignored: the first one wins.
  void Complete(std::optional<Failure> failure);

  std::optional<Failure> Wait();
  bool WaitFor(absl::Duration timeout);
  MonotonicTime completed_at();

  absl::Duration patience() const { return patience_; }

 private:
  const absl::Duration patience_;
  const uint32_t fork_count_;
  std::mutex mutex_;  // not base/mutex.h: timed waits, on the monotonic clock
  std::condition_variable changed_;
  // Guarded by mutex_.
  bool done_ = false;
  std::optional<Failure> failure_;
  MonotonicTime completed_at_;
  Options options_;
};

}  // namespace client
}  // namespace tutti
