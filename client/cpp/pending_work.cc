#include "client/cpp/pending_work.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/fork.h"
#include "client/cpp/work.h"

namespace tutti {
inline namespace client {

PendingWork::PendingWork(Options options)
    : patience_(options.patience), fork_count_(ForkCount()), options_(std::move(options)) {}

void PendingWork::Refuse(Failure failure) {
  if (!options_.refused.has_value()) options_.refused = std::move(failure);
}

void PendingWork::Complete(std::optional<Failure> failure) {
  // Dropped after the lock: that may take the arena pool's.
  std::vector<Tensor> tensors;
  std::shared_ptr<const Block> kept;
  const std::lock_guard lock(mutex_);
  if (done_) return;
  failure_ = options_.refused.has_value() ? std::move(options_.refused) : std::move(failure);
  if (failure_.has_value()) {
    options_.copy_back = nullptr;
    if (failure_->group.empty()) {
      failure_->group = options_.group;
      failure_->epoch = options_.epoch;
    }
  }
  completed_at_ = RealClock().Now();
  tensors = std::move(options_.tensors);
  kept = std::move(kept_);
  done_.store(true, std::memory_order_release);
  changed_.notify_all();
}

std::optional<Failure> PendingWork::Wait() {
  if (std::optional<Failure> forked = ForkedSince(fork_count_)) return forked;
  if (!WaitFor(patience_)) {
    return Failure{.cause = Cause::kDeadline,
                   .message = absl::StrCat("the daemon has not ended the operation within ",
                                           absl::FormatDuration(patience_),
                                           ", long after its deadline: the daemon itself is "
                                           "stopped or overloaded")};
  }
  const std::lock_guard lock(mutex_);
  // Under the lock: another waiter must not return before the result is there.
  if (options_.copy_back) std::exchange(options_.copy_back, nullptr)();
  return failure_;
}

bool PendingWork::WaitFor(absl::Duration timeout) {
  if (ForkedSince(fork_count_).has_value()) return true;  // Wait says why
  if (is_done()) return true;
  const Deadline deadline =
      std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(std::min(timeout, kWaitMax));
  if (source_ != nullptr) {
    source_->WaitFor(*this, deadline);
    return is_done();
  }
  std::unique_lock lock(mutex_);
  return changed_.wait_until(lock, deadline, [this] { return is_done(); });
}

MonotonicTime PendingWork::completed_at() {
  if (ForkedSince(fork_count_).has_value()) return RealClock().Now();
  const std::lock_guard lock(mutex_);
  return completed_at_;
}

std::optional<Failure> Work::Wait() const { return pending_->Wait(); }
bool Work::WaitFor(absl::Duration timeout) const { return pending_->WaitFor(timeout); }
MonotonicTime Work::completed_at() const { return pending_->completed_at(); }

}  // namespace client
}  // namespace tutti
