#include "daemon/transport/ring_lanes.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "shm/doorbell.h"
#include "shm/ring_region.h"

namespace tutti {
namespace {

// Then other lanes get their turn, and after so long tasks, timers and sockets. A work takes from
// half a microsecond to, if the operation that it completes touches inline_bytes_max, a
// millisecond.
constexpr size_t kWorksPerTurn = 8;
constexpr uint64_t kTurnNs = 200'000;

// A client that is gone may have left thousands of works. What is not taken by then never was.
constexpr absl::Duration kTakeRest = absl::Milliseconds(10);

// A lane that has been quiet for so long sleeps though others are busy. Not earlier: to look at one
// costs nanoseconds, to be rung for microseconds; and all ranks of a group are quiet while one of
// them computes.
constexpr uint64_t kQuietSpins = 20;

constexpr uint64_t kPageBytes = 4096;

#if defined(__x86_64__)
constexpr bool kSupported = true;
#else
constexpr bool kSupported = false;
#endif

Failure Invalid(std::string message) {
  return {.cause = Cause::kInvalid, .message = std::move(message)};
}

}  // namespace

RingLanes::RingLanes(Options options) : options_(std::move(options)) {}

// --- Lanes come and go ---

Result<RingLanes::Made> RingLanes::Create(SessionId session, const v1::CreateRing& request) {
  Result<RingLane::Options> opened = Open(session, request);
  if (!opened.ok()) return opened.failure();
  absl::StatusOr<DoorbellPair> doorbell = MakeDoorbell();
  if (!doorbell.ok()) {
    return Failure{.cause = Cause::kLimit, .message = std::string(doorbell.status().message())};
  }
  const auto watch = options_.watcher->Watch(doorbell->ours.get(), EPOLLIN,
                                             [this, session](uint32_t) { OnDoorbell(session); });
  if (!watch.ok()) {
    return Failure{.cause = Cause::kLimit, .message = "the daemon cannot watch more sockets"};
  }
  opened->doorbell = std::move(doorbell->ours);
  auto lane = std::make_shared<RingLane>(std::move(*opened));
  // Closes the lane before; if that was a ring, it is forgotten now.
  const Result<WorkNumber> last_received =
      options_.core->Attach(session, lane.get(), request.acknowledged());
  if (!last_received.ok()) {
    options_.watcher->Unwatch(*watch);
    return last_received.failure();
  }
  Kept& kept = lanes_[session];
  kept = {.lane = std::move(lane), .doorbell_watch = *watch};
  MakeBusy(&kept);
  return Made{.last_received = *last_received, .doorbell = std::move(doorbell->theirs)};
}

Result<RingLane::Options> RingLanes::Open(SessionId session, const v1::CreateRing& request) {
  if (!kSupported) {
    return Failure{.cause = Cause::kUnsupported, .message = "rings are for x86-64 only"};
  }
  if (request.offset() % kPageBytes != 0) {
    return Invalid(absl::StrCat("a ring at offset ", request.offset(),
                                "; it begins at a multiple of ", kPageBytes));
  }
  Span span{.arena = request.arena(), .offset = request.offset(), .length = sizeof(RingHeader)};
  const Result<ArenaView> head = options_.core->View(session, span);
  if (!head.ok()) return head.failure();
  RingHeader header;
  std::memcpy(&header, head->data, sizeof(header));
  if (const absl::Status status = CheckRingHeader(header); !status.ok()) {
    return Invalid(std::string(status.message()));
  }
  span.length = RingBytes(header.entries);
  Result<ArenaView> whole = options_.core->View(session, span);
  if (!whole.ok()) return whole.failure();
  RingLane::Options opened{.session = session,
                           .region = RingRegion(whole->data, header.entries),
                           .memory = std::move(whole->keep),
                           .core = options_.core,
                           .works_in_flight_max = options_.works_in_flight_max};
  opened.told = [this](std::shared_ptr<RingLane> lane) { told_.push_back(std::move(lane)); };
  // Not at once: it may be in the middle of a call of the core.
  opened.broken = [this, session](const Failure& failure) {
    options_.loop->Post([this, session, failure] { options_.end_session(session, failure); });
  };
  opened.closed = [this, session] { Forget(session); };
  return opened;
}

void RingLanes::TakeRest(SessionId session) {
  const auto found = lanes_.find(session);
  if (found == lanes_.end()) return;
  const std::shared_ptr<RingLane> lane = found->second.lane;
  const MonotonicTime until = options_.clock->Now() + kTakeRest;
  while (lane->Poll(kWorksPerTurn) > 0 && options_.clock->Now() < until) {
  }
}

void RingLanes::Forget(SessionId session) {
  const auto found = lanes_.find(session);
  if (found == lanes_.end()) return;
  options_.watcher->Unwatch(found->second.doorbell_watch);
  lanes_.erase(found);
}

// --- Polling ---

bool RingLanes::Poll(uint64_t now_ns) {
  bool any = false;
  for (const Busy& busy : busy_) busy.lane->Prefetch();
  size_t works = 0;
  for (size_t i = 0; i < busy_.size(); ++i) {
    const size_t at = (first_ + i) % busy_.size();
    Busy& busy = busy_[at];
    const size_t taken = busy.lane->Poll(kWorksPerTurn);
    if (taken > 0 || busy.last_ns == 0) busy.last_ns = now_ns;
    any |= taken > 0;
    works += taken;
    // To ask what time it is costs a tenth of a work.
    if (works < kWorksPerTurn) continue;
    works = 0;
    if (NowNs() - now_ns <= kTurnNs) continue;
    first_ = at + 1;
    break;
  }
  const auto rests = [&](const Busy& busy) {
    return now_ns - busy.last_ns > kQuietSpins * options_.spin_us * 1000 && TrySleep(busy);
  };
  busy_.erase(std::remove_if(busy_.begin(), busy_.end(), rests), busy_.end());
  RingWhoSleeps();
  return any;
}

uint64_t RingLanes::NowNs() const {
  return static_cast<uint64_t>(absl::ToUnixNanos(options_.clock->Now()));
}

// Here and not as each completion is put: a fence waits for the stores before it, and these for the
// processors of the clients; so they wait together.
void RingLanes::RingWhoSleeps() {
  if (told_.empty()) return;
  SharedMemory::Fence();
  for (const std::shared_ptr<RingLane>& lane : told_) lane->TellIfAsleep();
  told_.clear();
}

bool RingLanes::MaySleep() {
  const auto sleeps = [this](const Busy& busy) { return TrySleep(busy); };
  busy_.erase(std::remove_if(busy_.begin(), busy_.end(), sleeps), busy_.end());
  RingWhoSleeps();
  return busy_.empty();
}

bool RingLanes::TrySleep(const Busy& busy) {
  if (busy.lane->is_closed()) return true;
  if (!busy.lane->MaySleep()) {
    busy.lane->Awake();
    return false;
  }
  const auto found = lanes_.find(busy.lane->session());
  if (found != lanes_.end() && found->second.lane == busy.lane) found->second.busy = false;
  return true;
}

void RingLanes::OnDoorbell(SessionId session) {
  const auto found = lanes_.find(session);
  if (found == lanes_.end()) return;
  Kept& kept = found->second;
  if (!SilenceDoorbell(kept.lane->doorbell())) {
    // Its session is about to end; or else nobody will wake it, which harms nobody else.
    options_.watcher->Unwatch(std::exchange(kept.doorbell_watch, 0));
    return;
  }
  MakeBusy(&kept);
}

void RingLanes::MakeBusy(Kept* kept) {
  if (std::exchange(kept->busy, true)) return;
  kept->lane->Awake();
  busy_.push_back({kept->lane, 0});
}

}  // namespace tutti
