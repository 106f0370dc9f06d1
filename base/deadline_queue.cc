#include "base/deadline_queue.h"

#include <utility>

namespace tutti {

DeadlineQueue::DeadlineQueue(const Clock* clock, SequencedTaskRunner* loop)
    : clock_(clock), loop_(loop), self_(std::make_shared<DeadlineQueue*>(this)) {}

DeadlineQueue::Handle DeadlineQueue::Add(MonotonicTime when, std::function<void()> expired) {
  const Handle handle = entries_.emplace(when, std::move(expired));
  Arm();
  return handle;
}

void DeadlineQueue::Remove(Handle handle) { entries_.erase(handle); }

void DeadlineQueue::Arm() {
  if (entries_.empty() || entries_.begin()->first >= armed_) return;
  armed_ = entries_.begin()->first;
  loop_->PostAt(armed_, [self = std::weak_ptr<DeadlineQueue*>(self_)] {
    if (const auto queue = self.lock()) (*queue)->Expire();
  });
}

void DeadlineQueue::Expire() {
  const MonotonicTime now = clock_->Now();
  if (now >= armed_) armed_ = absl::InfiniteFuture();
  // One at a time: what expires may add and remove others.
  while (!entries_.empty() && entries_.begin()->first <= now) {
    auto entry = entries_.extract(entries_.begin());
    entry.mapped()();
  }
  Arm();
}

}  // namespace tutti
