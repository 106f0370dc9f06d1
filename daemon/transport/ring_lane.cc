#include "daemon/transport/ring_lane.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/failpoint.h"
#include "daemon/transport/request_convert.h"
#include "daemon/transport/short_failure.h"
#include "shm/doorbell.h"

namespace tutti {
namespace {

// The core keeps completions until they are acknowledged, and ends a session that leaves it with
// four times of what may be in flight. Reading how many were taken costs a cache miss, so it is not
// done for each of them.
constexpr uint64_t kAcknowledgeEveryMax = 64;

// More spans than may be are refused whatever they are, so they are not read, and counted so far.
constexpr uint32_t kSpansCountedMax = kSpansPerWorkMax + 1;

}  // namespace

RingLane::RingLane(Options options)
    : session_(options.session),
      region_(options.region),
      memory_(std::move(options.memory)),
      doorbell_(std::move(options.doorbell)),
      core_(options.core),
      acknowledge_every_(std::min(kAcknowledgeEveryMax, options.works_in_flight_max)),
      tell_told_(std::move(options.told)),
      tell_broken_(std::move(options.broken)),
      closed_(std::move(options.closed)),
      works_(region_.submissions()),
      completions_(region_.completions()) {}

// --- Works ---

size_t RingLane::Poll(size_t works_max) {
  const std::shared_ptr<RingLane> self = shared_from_this();
  if (is_closed() || broken_) return 0;
  const auto is_due = [this] { return put_ - acknowledged_ >= acknowledge_every_; };
  if (is_due() || !backlog_.empty()) Acknowledge();
  size_t taken = 0;
  while (taken < works_max && !is_closed() && !broken_) {
    SubmissionEntry entry;
    const auto popped = works_.TryPop(&entry);
    if (popped == RingConsumer<SubmissionEntry>::Pop::kEmpty) break;
    if (popped == RingConsumer<SubmissionEntry>::Pop::kBroken) {
      Break("the tail of the ring's submission queue is ahead of what fits into it");
      break;
    }
    ++taken;
    Submit(entry);
    if (is_due()) Acknowledge();
  }
  return taken;
}

void RingLane::Submit(const SubmissionEntry& entry) {
  Failpoint("lane.before_submit");
  FromRing(entry, &request_);
  if (!ReadSpans(entry)) return;
  if (const auto broken = core_->Submit(session_, request_)) Break(*broken);
}

bool RingLane::ReadSpans(const SubmissionEntry& entry) {
  request_.inputs.clear();
  request_.outputs.clear();
  if (entry.inputs > 1 || entry.outputs > 1) return ReadTable(entry);
  if (entry.inputs == 1) request_.inputs.push_back(FromRing(entry.spans[0]));
  if (entry.outputs == 1) request_.outputs.push_back(FromRing(entry.spans[1]));
  return true;
}

bool RingLane::ReadTable(const SubmissionEntry& entry) {
  if (entry.inputs > kSpansPerWorkMax || entry.outputs > kSpansPerWorkMax) {
    request_.inputs.resize(std::min(entry.inputs, kSpansCountedMax));
    request_.outputs.resize(std::min(entry.outputs, kSpansCountedMax));
    return true;
  }
  const size_t count = size_t{entry.inputs} + entry.outputs;
  const Span place = FromRing(entry.spans[0]);
  if (place.length != count * sizeof(RingSpan)) {
    Break(absl::StrCat("work ", entry.number, " has a table of ", place.length, " bytes for ",
                       count, " spans"));
    return false;
  }
  const Result<ArenaView> table = core_->View(session_, place);
  if (!table.ok()) {
    Break(absl::StrCat("the table of spans of work ", entry.number, ": ", table.failure().message));
    return false;
  }
  for (size_t i = 0; i < count; ++i) {
    RingSpan span;
    std::memcpy(&span, table->data + i * sizeof(span), sizeof(span));
    (i < entry.inputs ? request_.inputs : request_.outputs).push_back(FromRing(span));
  }
  return true;
}

void RingLane::Acknowledge() {
  const std::optional<uint64_t> taken = completions_.Taken();
  if (!taken.has_value()) {
    return Break("the head of the ring's completion queue is ahead of its tail, or has gone back");
  }
  if (std::exchange(acknowledged_, *taken) != *taken) {
    // Serials grow by one with each completion that is put.
    const auto broken = core_->Acknowledge(session_, last_serial_ - (put_ - *taken));
    if (broken.has_value()) return Break(*broken);
  }
  DeliverBacklog();
}

bool RingLane::MaySleep() {
  if (!works_.MaySleep()) return false;
  // The client rings when it takes a failure that something waits behind; but it may have done so
  // before the flag was set.
  if (!backlog_.empty()) Acknowledge();
  return true;
}

// --- Completions ---

void RingLane::Deliver(const Completion& completion) {
  if (!backlog_.empty() || !Put(completion)) backlog_.push_back(completion);
}

void RingLane::DeliverBacklog() {
  while (!backlog_.empty() && !broken_ && Put(backlog_.front())) backlog_.pop_front();
}

// False if there is no slot for its failure.
bool RingLane::Put(const Completion& completion) {
  CompletionEntry entry{.serial = completion.serial, .number = completion.number};
  if (completion.failure.has_value()) {
    const std::string bytes =
        ToShortProto(*completion.failure, kRingFailureBytes).SerializeAsString();
    const std::optional<uint32_t> slot = PutFailure(bytes);
    if (!slot.has_value()) return false;
    entry.failure = *slot + 1;
    entry.failure_bytes = static_cast<uint32_t>(bytes.size());
  }
  if (completions_.TryPush(entry) != RingProducer<CompletionEntry>::Push::kDone) {
    Break(absl::StrCat("more works in flight than the ring's ", region_.entries(),
                       " entries, or a completion queue that was written to"));
    return true;
  }
  ++put_;
  last_serial_ = completion.serial;
  if (!std::exchange(told_, true)) tell_told_(shared_from_this());
  return true;
}

void RingLane::TellIfAsleep() {
  told_ = false;
  if (completions_.IsAsleep()) RingDoorbell(doorbell_.get());
}

std::optional<uint32_t> RingLane::PutFailure(const std::string& bytes) {
  const auto place = slots_.Find(bytes, put_, completions_.Taken().value_or(0));
  if (!place.has_value()) return std::nullopt;
  if (place->write) std::memcpy(region_.failure_slot(place->slot), bytes.data(), bytes.size());
  return place->slot;
}

// --- The end ---

void RingLane::Break(std::string message) {
  Break(Failure{.cause = Cause::kProtocol, .message = std::move(message)});
}

void RingLane::Break(const Failure& failure) {
  if (!std::exchange(broken_, true)) tell_broken_(failure);
}

void RingLane::Close(const Failure&) {
  // The client is told on its session socket; what it has yet to take stays in the region. Whoever
  // is told may drop its share of this.
  if (const std::function<void()> closed = std::exchange(closed_, nullptr)) closed();
}

}  // namespace tutti
