// One epoch of a group, from the moment when all ranks have joined: where works become operations.
//
//        ready ──► failed   a rank died, a deadline passed, a backend failed
//          └─────► closed   a rank left, or closed its session
//
// One way: nothing is repaired inside an epoch. The first error is what every later call returns.
// Operations that all ranks have submitted run to their end whatever happens to ranks meanwhile.
//
// Lives on the control loop. Shared by the registry and by the operations that run.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backends/backend.h"
#include "daemon/core/complete.h"
#include "daemon/core/deadline_queue.h"
#include "daemon/core/execute.h"
#include "daemon/core/limits.h"
#include "daemon/core/match.h"
#include "daemon/core/process.h"
#include "daemon/core/recorder.h"
#include "daemon/core/requests.h"
#include "daemon/core/session.h"
#include "daemon/core/snapshot.h"
#include "daemon/core/verdict.h"

namespace tutti {

// What groups use of the core; outlives them.
struct GroupServices {
  const Clock* clock = nullptr;
  const Limits* limits = nullptr;
  const ProcessProbe* processes = nullptr;
  DeadlineQueue* deadlines = nullptr;
  Executor* executor = nullptr;
  Completer* completer = nullptr;
  Completer::FindSession find_session;
  // A group has ended: people are to see that at once, and not at the next tick.
  std::function<void()> ended;
};

// What an epoch is called, and how it works.
struct GroupIdentity {
  std::string name_space;
  std::string name;
  uint64_t epoch = 0;
  std::string epoch_id;  // 16 random bytes
  Backend* backend = nullptr;
  absl::Duration work_timeout;
};

class Group : public std::enable_shared_from_this<Group> {
 public:
  // `sessions`: who holds each rank. The epoch starts as ready.
  Group(GroupIdentity identity, const std::vector<SessionId>& sessions,
        std::shared_ptr<Communicator> communicator, const GroupServices* services);

  const GroupIdentity& identity() const { return identity_; }
  GroupState state() const { return state_; }
  uint32_t world_size() const { return static_cast<uint32_t>(seats_.size()); }
  // 0 if nobody does (any more).
  SessionId HolderOf(Rank rank) const { return seats_[rank].session; }
  // Nobody holds a seat: the epoch is history.
  bool empty() const;

  // Takes a work of `rank`, which `session` holds, and does all that it makes possible.
  void Submit(Session* session, Rank rank, const WorkRequest& request);

  // `rank` leaves in good order: what it has submitted still completes.
  void Leave(Rank rank);

  // The session that held these ranks has ended. `who` describes it.
  void SeatsLost(const std::vector<Rank>& ranks, Cause cause, const std::string& who);

  // Makes operations that run return soon; for the end of the daemon.
  void Abort() { communicator_->Abort(); }

  // Logs operations that have been waiting for longer than the stall warning, and who is missing.
  void ReportStalls();

  // Updates the rates and returns what people are shown.
  std::shared_ptr<const GroupSnapshot> Show();

 private:
  struct Seat {
    SessionId session = 0;
    bool left = false;
    MonotonicTime idle_since;
  };
  struct Rates {
    MonotonicTime since;
    uint64_t ops = 0;
    uint64_t bytes = 0;
  };

  GroupLabel label() const { return {identity_.name, identity_.epoch}; }
  template <typename Visit>
  void ForEachSequence(Visit visit);

  OpSequence* SequenceOf(Rank rank, const WorkRequest& request);
  void CompleteIfSmall(const Session& session, Operation* operation);
  void Arrived(OpSequence* sequence, const std::shared_ptr<Operation>& operation);
  void ArmDeadline(OpSequence* sequence, const std::shared_ptr<Operation>& operation);
  void DisarmDeadline(Operation* operation);
  void Expired(OpSequence* sequence, const std::shared_ptr<Operation>& operation);
  void Advance(OpSequence* sequence);
  void Ran(OpSequence* sequence, const std::shared_ptr<Operation>& operation,
           const absl::Status& status);
  void Tell(Operation* operation, const std::optional<Failure>& failure);
  void Finish(OpSequence* sequence, const std::shared_ptr<Operation>& operation,
              const std::optional<Failure>& failure);
  void Record(const OpSequence& sequence, const Operation& operation,
              const std::optional<Failure>& failure);

  void End(GroupState state, Failure failure);
  void Abandon(OpSequence* sequence, uint64_t cap, const Failure& failure);
  void AbandonAll(const Failure& failure);

  RankSnapshot ShowRank(Rank rank, const Operation* oldest) const;
  std::vector<std::string> DescribeMissing(const OpSequence& sequence,
                                           const Operation& operation) const;
  const Operation* OldestWaiting() const;
  // All but who has arrived.
  OpSnapshot ShowOperation(const OpSequence& sequence, const Operation& operation) const;
  void UpdateRates(MonotonicTime now);

  const GroupIdentity identity_;
  const GroupServices* const services_;
  const std::shared_ptr<Communicator> communicator_;

  GroupState state_ = GroupState::kReady;
  std::optional<Failure> failure_;
  std::vector<Seat> seats_;
  OpSequence collectives_;
  std::map<std::pair<Rank, Rank>, OpSequence> transfers_;

  Recorder recorder_;
  uint64_t ops_done_ = 0;
  uint64_t ops_failed_ = 0;
  uint64_t bytes_done_ = 0;
  Rates window_;
  double ops_per_second_ = 0;
  double bytes_per_second_ = 0;
  bool changed_ = true;
  std::shared_ptr<const GroupSnapshot> shown_;
};

template <typename Visit>
void Group::ForEachSequence(Visit visit) {
  visit(&collectives_);
  for (auto& [pair, sequence] : transfers_) visit(&sequence);
}

}  // namespace tutti
