// All ring lanes of the daemon: makes them, and looks at them on the control loop's every turn, as
// long as they are busy. One that has been quiet for a while sleeps until its doorbell is rung, so
// a turn costs what the busy sessions are, and an idle daemon nothing.
//
// Lives on the control loop. Owns the lanes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/task_runner.h"
#include "base/unique_fd.h"
#include "daemon/core/core.h"
#include "daemon/transport/fd_watcher.h"
#include "daemon/transport/poller.h"
#include "daemon/transport/ring_lane.h"
#include "tutti/v1/session.pb.h"

namespace tutti {

class RingLanes final : public Poller {
 public:
  // What it uses; all of it outlives this.
  struct Options {
    Core* core = nullptr;
    FdWatcher* watcher = nullptr;
    SequencedTaskRunner* loop = nullptr;
    const Clock* clock = nullptr;
    // As Limits has it.
    uint64_t works_in_flight_max = 0;
    // How long the loop yields before it sleeps, and what clients are told.
    uint64_t spin_us = 0;
    // The session has broken the lane's protocol: closes its socket.
    std::function<void(SessionId session, const Failure& failure)> end_session;
  };
  explicit RingLanes(Options options);

  struct Made {
    WorkNumber last_received = 0;
    // The client's end.
    UniqueFd doorbell;
  };
  // Makes the region that the client has prepared the session's lane. Fails with kInvalid (no such
  // memory, or not a ring), kLimit (no descriptors), kUnsupported (this machine's memory has an
  // order for which the ring is not proven).
  Result<Made> Create(SessionId session, const v1::CreateRing& request);

  // Takes what the session's client has submitted, as far as that can be done soon: it submits no
  // more.
  void TakeRest(SessionId session);

  bool Poll(uint64_t now_ns) override;
  bool IsAwake() const override { return !busy_.empty(); }
  bool MaySleep() override;

  uint64_t spin_us() const { return options_.spin_us; }
  // How many lanes there are, and how many of these don't sleep.
  size_t count() const { return lanes_.size(); }
  size_t busy() const { return busy_.size(); }

 private:
  // A lane that is looked at, and when it last had something; 0: to be seen on the next turn.
  struct Busy {
    std::shared_ptr<RingLane> lane;
    uint64_t last_ns = 0;
  };
  struct Kept {
    std::shared_ptr<RingLane> lane;
    WatchId doorbell_watch = 0;
    bool busy = false;
  };

  Result<RingLane::Options> Open(SessionId session, const v1::CreateRing& request);
  void OnDoorbell(SessionId session);
  void MakeBusy(Kept* kept);
  // False if something has come.
  bool TrySleep(const Busy& busy);
  void Forget(SessionId session);
  void RingWhoSleeps();
  uint64_t NowNs() const;

  const Options options_;
  std::map<SessionId, Kept> lanes_;
  std::vector<Busy> busy_;
  // Which of them is looked at first.
  size_t first_ = 0;
  // Those that have told their clients something since the last turn.
  std::vector<std::shared_ptr<RingLane>> told_;
};

}  // namespace tutti
