// What a Work handle points to: one operation, from its submission to its verdict.
//
// Thread-safe. Shared by the user's handles and, until it completes, the work queue.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
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

class Block;
class PendingWork;

using Deadline = std::chrono::steady_clock::time_point;

// A lane without a thread of its own: completions are taken by those who wait. Thread-safe.
class CompletionSource {
 public:
  virtual ~CompletionSource() = default;

  // Returns when `work` is done, or at `deadline`; even if that is past, after a look at what there
  // is.
  virtual void WaitFor(const PendingWork& work, Deadline deadline) = 0;
};

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

  // Before it is submitted, by the thread that does.
  void SetSource(std::shared_ptr<CompletionSource> source) { source_ = std::move(source); }
  void Keep(std::shared_ptr<const Block> block) { kept_ = std::move(block); }
  // As Options::refused, unless that is set.
  void Refuse(Failure failure);

  // The verdict has arrived. Later ones are ignored: the first one wins.
  void Complete(std::optional<Failure> failure);

  std::optional<Failure> Wait();
  bool WaitFor(absl::Duration timeout);
  MonotonicTime completed_at();
  bool is_done() const { return done_.load(std::memory_order_acquire); }

  absl::Duration patience() const { return patience_; }

 private:
  const absl::Duration patience_;
  const uint32_t fork_count_;
  // Null if verdicts come by themselves.
  std::shared_ptr<CompletionSource> source_;
  std::atomic<bool> done_ = false;  // written under mutex_
  std::mutex mutex_;                // not base/mutex.h: timed waits, on the monotonic clock
  std::condition_variable changed_;
  // Guarded by mutex_.
  std::optional<Failure> failure_;
  MonotonicTime completed_at_;
  Options options_;
  std::shared_ptr<const Block> kept_;
};

}  // namespace client
}  // namespace tutti
