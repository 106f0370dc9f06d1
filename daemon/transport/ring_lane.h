// The ring lane of one session (shm/ring_layout.h): works in, completions out, without a system
// call unless the other side sleeps.
//
// Lives on the control loop; owned by RingLanes. Trusts nothing that it reads from the region: an
// entry is copied, then looked at, and an index that can't be ends the session, and no other.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "daemon/core/core.h"
#include "daemon/core/lane.h"
#include "daemon/transport/failure_slots.h"
#include "shm/mapping.h"
#include "shm/ring_region.h"

namespace tutti {

class RingLane final : public Lane, public std::enable_shared_from_this<RingLane> {
 public:
  struct Options {
    SessionId session = 0;
    RingRegion region{nullptr, 0};
    // Keeps the region mapped.
    std::shared_ptr<const Mapping> memory;
    // Our end; does not block.
    UniqueFd doorbell;
    // Outlives this.
    Core* core = nullptr;
    // As Limits has it.
    uint64_t works_in_flight_max = 0;
    // It has told its client something: TellIfAsleep is to be called soon, after a fence. May be
    // called from within the core; not again before that call.
    std::function<void(std::shared_ptr<RingLane>)> told;
    // The client has broken the protocol: its session has to end, for this reason. Called once, and
    // may be called from within the core.
    std::function<void(const Failure&)> broken;
    // The core wants it no more. The last thing this does.
    std::function<void()> closed;
  };
  explicit RingLane(Options options);

  // Takes up to `works_max` works, and tells the core of what the client has taken. Returns how
  // many works there were.
  size_t Poll(size_t works_max);

  // Poll will be called soon.
  void Prefetch() const { works_.Prefetch(); }

  // Rings if the client sleeps. REQUIRES: a fence since the last completion.
  void TellIfAsleep();

  // Nothing will come without a ring of the doorbell; false if something has come already. Either
  // way Awake comes before the next Poll.
  bool MaySleep();
  void Awake() { works_.Awake(); }

  SessionId session() const { return session_; }
  int doorbell() const { return doorbell_.get(); }
  bool is_closed() const { return closed_ == nullptr; }

  std::string_view name() const override { return "ring"; }
  void Deliver(const Completion& completion) override;
  void Close(const Failure& reason) override;

 private:
  void Submit(const SubmissionEntry& entry);
  bool ReadSpans(const SubmissionEntry& entry);
  bool ReadTable(const SubmissionEntry& entry);
  void Acknowledge();
  void DeliverBacklog();
  bool Put(const Completion& completion);
  std::optional<uint32_t> PutFailure(const std::string& bytes);
  void Break(std::string message);
  void Break(const Failure& failure);

  const SessionId session_;
  const RingRegion region_;
  const std::shared_ptr<const Mapping> memory_;
  const UniqueFd doorbell_;
  Core* const core_;
  const uint64_t acknowledge_every_;
  const std::function<void(std::shared_ptr<RingLane>)> tell_told_;
  const std::function<void(const Failure&)> tell_broken_;
  std::function<void()> closed_;

  RingConsumer<SubmissionEntry> works_;
  RingProducer<CompletionEntry> completions_;
  FailureSlots slots_;
  // What waits for a free slot, and all that came after it.
  std::deque<Completion> backlog_;
  // Completions that were put so far, the serial of the last of them, and up to which the core
  // knows them to be taken.
  uint64_t put_ = 0;
  uint64_t last_serial_ = 0;
  uint64_t acknowledged_ = 0;
  bool told_ = false;
  bool broken_ = false;
  // Used again for each work: its vectors keep their memory.
  WorkRequest request_;
};

}  // namespace tutti
