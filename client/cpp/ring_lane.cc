#include "client/cpp/ring_lane.h"

#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cpp/fork.h"
#include "proto/convert.h"
#include "shm/doorbell.h"
#include "tutti/v1/types.pb.h"

namespace tutti {
inline namespace client {
namespace {

using Clock = std::chrono::steady_clock;

// What a daemon that ends a session says about it comes on the session socket, within a millisecond
// of the doorbell's hang-up.
constexpr std::chrono::seconds kLastWords(1);

// A poll without a deadline looks around now and then; nothing depends on it.
constexpr std::chrono::minutes kPollMax(10);

// Then the consumer looks whether its own time is up: others may keep it busy for ever.
constexpr int kTakenInARow = 64;

uint64_t Nanoseconds(Clock::time_point time) {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count());
}

int PollTimeoutMs(Clock::time_point deadline) {
  const auto left = std::clamp<Clock::duration>(deadline - Clock::now(), Clock::duration(0),
                                                Clock::duration(kPollMax));
  return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(left).count());
}

Failure ProtocolFailure(std::string message) {
  return Failure{.cause = Cause::kProtocol, .message = std::move(message)};
}

SubmissionEntry ToEntry(const Request& request) {
  SubmissionEntry entry;
  entry.membership = request.membership;
  entry.timeout_ms = request.timeout_ms;
  entry.root = request.root;
  entry.kind = static_cast<uint8_t>(request.kind);
  entry.dtype = static_cast<uint8_t>(request.dtype);
  entry.op = static_cast<uint8_t>(request.op);
  return entry;
}

}  // namespace

RingLane::RingLane(Options options)
    : region_(options.region),
      memory_(std::move(options.memory)),
      doorbell_(std::move(options.doorbell)),
      in_flight_max_(std::min<uint64_t>(options.in_flight_max, region_.entries())),
      pool_(std::move(options.pool)),
      tell_broken_(std::move(options.broken)),
      completions_(region_.completions()),
      spin_(options.spin_us * 1000),
      submissions_(region_.submissions()) {}

RingLane::~RingLane() { KeepInChildren(doorbell_.get()); }

uint64_t RingLane::last_number() {
  const std::lock_guard lock(mutex_);
  return last_number_;
}

// --- Submitting ---

void RingLane::Submit(const Request& request, std::shared_ptr<PendingWork> pending) {
  pending->SetSource(shared_from_this());
  SubmissionEntry entry = ToEntry(request);
  if (std::optional<Failure> failure = AddSpans(request, &entry, pending.get())) {
    // Submitted all the same: the daemon refuses it, and tells the other ranks at once.
    pending->Refuse(*std::move(failure));
  }
  const Deadline deadline = Clock::now() + absl::ToChronoNanoseconds(pending->patience());
  Pushed pushed = Pushed::kNoRoom;
  // Another thread may take the room that there was.
  while (pushed == Pushed::kNoRoom && WaitForRoom(deadline)) pushed = Push(&entry, pending);
  if (pushed == Pushed::kDone) return;
  std::optional<Failure> refused;
  if (pushed == Pushed::kNoRoom) {
    refused = Failure{.cause = Cause::kLimit,
                      .message = absl::StrCat(in_flight_max_,
                                              " operations are in flight, and none has ended; "
                                              "works_in_flight_max is the daemon's setting")};
  } else {
    const std::lock_guard lock(mutex_);
    refused = end_.has_value() ? end_ : broken_;
  }
  pending->Complete(std::move(refused));
}

bool RingLane::WaitForRoom(Deadline deadline) {
  return Drive([this] { return in_flight_ < in_flight_max_ || ending_; }, deadline);
}

std::optional<Failure> RingLane::AddSpans(const Request& request, SubmissionEntry* entry,
                                          PendingWork* pending) {
  const size_t inputs = request.inputs.size();
  const size_t outputs = request.outputs.size();
  if (inputs <= 1 && outputs <= 1) {
    if (inputs == 1) entry->spans[0] = request.inputs[0];
    if (outputs == 1) entry->spans[1] = request.outputs[0];
  } else {
    const size_t bytes = (inputs + outputs) * sizeof(RingSpan);
    Result<std::shared_ptr<const Block>> block = pool_->Allocate(bytes);
    if (!block.ok()) return block.failure();
    const Block& table = **block;
    std::memcpy(table.data(), request.inputs.data(), inputs * sizeof(RingSpan));
    std::memcpy(table.data() + inputs * sizeof(RingSpan), request.outputs.data(),
                outputs * sizeof(RingSpan));
    entry->spans[0] = {.arena = table.arena(), .offset = table.offset(), .length = bytes};
    pending->Keep(*std::move(block));
  }
  entry->inputs = static_cast<uint32_t>(inputs);
  entry->outputs = static_cast<uint32_t>(outputs);
  return std::nullopt;
}

RingLane::Pushed RingLane::Push(SubmissionEntry* entry, const std::shared_ptr<PendingWork>& work) {
  bool fits = false;
  bool ring = false;
  {
    const std::lock_guard lock(mutex_);
    if (ending_) return Pushed::kEnded;
    if (works_.size() >= in_flight_max_) return Pushed::kNoRoom;
    entry->number = ++last_number_;
    works_.emplace(entry->number, work);
    in_flight_ = works_.size();
    fits = submissions_.TryPush(*entry) == RingProducer<SubmissionEntry>::Push::kDone;
    ring = submissions_.MustRing();
  }
  if (ring) RingDoorbell(doorbell_.get());
  if (!fits) {
    // The region has an entry for each work that may be in flight.
    Break(ProtocolFailure("the daemon's head of the submission queue can't be"));
    ReportIfBroken();
  }
  return Pushed::kDone;
}

// --- Waiting ---

void RingLane::WaitFor(const PendingWork& work, Deadline deadline) {
  Drive([&work] { return work.is_done(); }, deadline);
}

template <typename Done>
bool RingLane::Drive(const Done& done, Deadline deadline) {
  std::unique_lock lock(mutex_);
  while (!done()) {
    if (consuming_ || nothing_to_come()) {
      const Deadline until = hung_up_ && !ending_ ? std::min(deadline, give_up_) : deadline;
      ++waiting_;
      changed_.wait_until(lock, until);
      --waiting_;
    } else {
      consuming_ = true;
      lock.unlock();
      Consume(done, deadline);
      lock.lock();
      consuming_ = false;
      if (waiting_ > 0) changed_.notify_all();
    }
    const Deadline now = Clock::now();
    if (hung_up_ && !ending_ && now >= give_up_) {
      lock.unlock();
      Break(Failure{.cause = Cause::kNodeLost,
                    .message = "the daemon has given up the lane; connect again"});
      lock.lock();
    }
    if (broken_.has_value() && !reported_) {
      lock.unlock();
      ReportIfBroken();
      lock.lock();
    }
    if (now >= deadline) return done();
  }
  return true;
}

template <typename Done>
void RingLane::Consume(const Done& done, Deadline deadline) {
  bool spinning = false;
  int in_a_row = 0;
  while (!done() && !nothing_to_come()) {
    const bool taken = TakeCompletions();
    if (taken && std::exchange(spinning, false)) spin_.Succeeded();
    // To ask what time it is costs as much as to take one.
    if (taken && ++in_a_row < kTakenInARow) continue;
    in_a_row = 0;
    const Deadline now = Clock::now();
    if (now >= deadline) return;
    if (taken) continue;
    if (!std::exchange(spinning, true)) spin_.Start(Nanoseconds(now));
    if (spin_.MayYield(Nanoseconds(now))) {
      sched_yield();
    } else {
      Sleep(deadline);
    }
  }
}

bool RingLane::TakeCompletions() {
  CompletionEntry entry;
  const auto peeked = completions_.TryPeek(&entry);
  if (peeked == RingConsumer<CompletionEntry>::Pop::kDone) {
    TakeOne(entry);
    return true;
  }
  if (peeked == RingConsumer<CompletionEntry>::Pop::kBroken) {
    Break(ProtocolFailure("the tail of the completion queue is ahead of what fits into it"));
  }
  return false;
}

void RingLane::TakeOne(const CompletionEntry& entry) {
  // Before the entry is given back: then the slot may be written again.
  std::optional<Failure> failure = FailureOf(entry);
  completions_.Advance();
  if (entry.failure != 0 && submissions_.MustRing()) RingDoorbell(doorbell_.get());
  std::shared_ptr<PendingWork> pending;
  {
    const std::lock_guard lock(mutex_);
    const auto found = works_.find(entry.number);
    if (entry.serial == last_serial_ + 1 && found != works_.end()) {
      pending = std::move(found->second);
      works_.erase(found);
      in_flight_ = works_.size();
    }
  }
  if (pending == nullptr) {
    return Break(
        ProtocolFailure(absl::StrCat("the daemon sent completion ", entry.serial, " of work ",
                                     entry.number, " after completion ", last_serial_)));
  }
  last_serial_ = entry.serial;
  pending->Complete(std::move(failure));
  const std::lock_guard lock(mutex_);
  if (waiting_ > 0) changed_.notify_all();
}

std::optional<Failure> RingLane::FailureOf(const CompletionEntry& entry) const {
  if (entry.failure == 0) return std::nullopt;
  v1::Failure failure;
  if (entry.failure > kRingFailureSlots || entry.failure_bytes > kRingFailureBytes ||
      !failure.ParseFromArray(region_.failure_slot(entry.failure - 1),
                              static_cast<int>(entry.failure_bytes))) {
    return ProtocolFailure("the daemon has not said legibly why the operation failed");
  }
  return FromProto(failure);
}

void RingLane::Sleep(Deadline deadline) {
  if (completions_.MaySleep()) {
    pollfd waited{.fd = doorbell_.get(), .events = POLLIN, .revents = 0};
    poll(&waited, 1, PollTimeoutMs(deadline));
  }
  completions_.Awake();
  if (SilenceDoorbell(doorbell_.get())) return;
  while (!ending_ && TakeCompletions()) {
  }
  const std::lock_guard lock(mutex_);
  give_up_ = Clock::now() + kLastWords;
  hung_up_ = true;
}

// --- The end ---

void RingLane::Break(Failure failure) {
  const std::lock_guard lock(mutex_);
  if (!broken_.has_value()) broken_ = std::move(failure);
  ending_ = true;
}

void RingLane::ReportIfBroken() {
  {
    const std::lock_guard lock(mutex_);
    if (!broken_.has_value() || std::exchange(reported_, true)) return;
    reporting_ = true;
  }
  tell_broken_(*broken_);
  const std::lock_guard lock(mutex_);
  reporting_ = false;
  changed_.notify_all();
}

void RingLane::Join() {
  std::unique_lock lock(mutex_);
  reported_ = true;  // it is too late
  ++waiting_;
  changed_.wait(lock, [this] { return !reporting_; });
  --waiting_;
}

void RingLane::End(const Failure& reason) {
  std::unique_lock lock(mutex_);
  if (!end_.has_value()) end_ = broken_.has_value() ? broken_ : reason;
  ending_ = true;
  // Whoever is the consumer leaves.
  shutdown(doorbell_.get(), SHUT_RDWR);
  changed_.notify_all();
  ++waiting_;
  changed_.wait(lock, [this] { return !consuming_; });
  --waiting_;
  consuming_ = true;
  lock.unlock();
  // What the daemon has completed before the end has ended so.
  while (TakeCompletions()) {
  }
  lock.lock();
  consuming_ = false;
  const auto works = std::exchange(works_, {});
  in_flight_ = 0;
  const std::optional<Failure> end = end_;
  lock.unlock();
  for (const auto& [number, work] : works) work->Complete(end);
  lock.lock();
  changed_.notify_all();
}

}  // namespace client
}  // namespace tutti
