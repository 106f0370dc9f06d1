#include "daemon/transport/ring_lanes.h"

#include <sched.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "shm/doorbell.h"
#include "shm/ring_region.h"

namespace tutti {
namespace {

// Then other lanes, tasks and sockets get their turn: a small operation takes a microsecond.
constexpr size_t kWorksPerTurn = 64;

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

RingLanes::RingLanes(Options options)
    : options_(std::move(options)), spin_(options_.spin_us * 1000) {}

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
                           .core = options_.core};
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
  // Not without an end, should it go on submitting.
  lane->Poll(kRingEntriesMax);
}

void RingLanes::Forget(SessionId session) {
  const auto found = lanes_.find(session);
  if (found == lanes_.end()) return;
  options_.watcher->Unwatch(found->second.doorbell_watch);
  lanes_.erase(found);
}

// --- Polling ---

bool RingLanes::Poll() {
  if (busy_.empty()) return false;
  bool any = false;
  const size_t count = busy_.size();
  for (size_t i = 0; i < count; ++i) {
    const std::shared_ptr<RingLane> lane = busy_[i].lane;
    if (lane->Poll(kWorksPerTurn) == 0) continue;
    any = true;
    busy_[i].last_ns = 0;  // now, see below
  }
  const uint64_t now_ns = NowNs();
  for (Busy& busy : busy_) {
    if (busy.last_ns == 0) busy.last_ns = now_ns;
  }
  if (any) {
    if (std::exchange(waiting_, false)) spin_.Succeeded();
    LetSleep(now_ns, false);
    return true;
  }
  if (!std::exchange(waiting_, true)) spin_.Start(now_ns);
  const bool yield = spin_.MayYield(now_ns);
  LetSleep(now_ns, !yield);
  if (busy_.empty()) {
    waiting_ = false;
    return false;
  }
  if (yield) sched_yield();
  return true;
}

void RingLanes::LetSleep(uint64_t now_ns, bool all) {
  const auto sleeps = [&](const Busy& busy) {
    if (busy.lane->is_closed()) return true;
    const bool quiet = all || now_ns - busy.last_ns > spin_.budget_ns();
    return quiet && TrySleep(busy);
  };
  busy_.erase(std::remove_if(busy_.begin(), busy_.end(), sleeps), busy_.end());
}

bool RingLanes::TrySleep(const Busy& busy) {
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
  busy_.push_back({kept->lane, NowNs()});
}

uint64_t RingLanes::NowNs() const {
  return static_cast<uint64_t>(absl::ToUnixNanos(options_.clock->Now()));
}

}  // namespace tutti
