#include "client/cpp/work_queue.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tutti {
inline namespace client {
namespace {

Failure ProtocolFailure(std::string message) {
  return Failure{.cause = Cause::kProtocol, .message = std::move(message)};
}

}  // namespace

const v1::Work& WorkQueue::Add(v1::Work work, std::shared_ptr<PendingWork> pending) {
  work.set_number(++last_number_);
  Entry& entry = entries_[last_number_];
  entry.work = std::move(work);
  entry.pending = std::move(pending);
  return entry.work;
}

std::optional<Failure> WorkQueue::WorksAfter(uint64_t last_received,
                                             std::vector<const v1::Work*>* works) const {
  works->clear();
  if (last_received > last_number_) {
    return ProtocolFailure(absl::StrCat("the daemon says that it has received work ", last_received,
                                        ", but the last one sent is ", last_number_));
  }
  for (auto it = entries_.upper_bound(last_received); it != entries_.end(); ++it) {
    works->push_back(&it->second.work);
  }
  return std::nullopt;
}

std::optional<Failure> WorkQueue::Take(const v1::Completion& completion,
                                       std::shared_ptr<PendingWork>* pending) {
  pending->reset();
  if (completion.serial() <= last_serial_) return std::nullopt;
  if (completion.serial() != last_serial_ + 1) {
    return ProtocolFailure(absl::StrCat("the daemon sent completion ", completion.serial(),
                                        " after completion ", last_serial_));
  }
  auto entry = entries_.extract(completion.number());
  if (entry.empty()) {
    return ProtocolFailure(absl::StrCat("the daemon completed work ", completion.number(),
                                        ", which is not in flight"));
  }
  last_serial_ = completion.serial();
  *pending = std::move(entry.mapped().pending);
  return std::nullopt;
}

std::vector<std::shared_ptr<PendingWork>> WorkQueue::TakeAll() {
  std::vector<std::shared_ptr<PendingWork>> all;
  all.reserve(entries_.size());
  for (auto& [number, entry] : entries_) all.push_back(std::move(entry.pending));
  entries_.clear();
  return all;
}

}  // namespace client
}  // namespace tutti
