// One epoch of a group, from the moment when all ranks have joined: where works become operations.
//
//        ready ──► failed   a rank died, a deadline passed, a backend failed
//          └─────► closed   a rank left, or closed its session
//
// One way: nothing is repaired inside an epoch. The first error is what every later call returns.
// Operations that all ranks have submitted run to their end whatever happens to ranks meanwhile.
//
// In a group over several nodes, each has a Group, which matches the works of its own ranks. What
// is complete on a node is agreed upon and executed by all of them together (group_across.cc); the
// epoch's coordinator decides how it ends, and the Group waits for that.
//
// Lives on the control loop. Shared by the registry and by the operations that run.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/core/agree.h"
#include "daemon/core/group_services.h"
#include "daemon/core/leg.h"
#include "daemon/core/match.h"
#include "daemon/core/recorder.h"
#include "daemon/core/requests.h"
#include "daemon/core/session.h"
#include "daemon/core/snapshot.h"
#include "daemon/core/verdict.h"

namespace tutti {

class Group : public std::enable_shared_from_this<Group> {
 public:
  // `sessions`: who holds each rank; 0 for those of other nodes. The epoch starts as ready.
  Group(GroupIdentity identity, const std::vector<SessionId>& sessions,
        std::shared_ptr<Communicator> communicator, const GroupServices* services,
        const GroupPeers* peers);
  // Over several nodes.
  Group(GroupIdentity identity, const std::vector<SessionId>& sessions, std::unique_ptr<Leg> leg,
        const GroupServices* services, const GroupPeers* peers);

  const GroupIdentity& identity() const { return identity_; }
  GroupState state() const { return state_; }
  uint32_t world_size() const { return static_cast<uint32_t>(seats_.size()); }
  // 0 if nobody does (any more).
  SessionId HolderOf(Rank rank) const { return seats_[rank].session; }
  // Nobody of this node holds a seat: history, once it is finished as well.
  bool empty() const;
  // It owes nothing to other nodes.
  bool finished() const;

  // Takes a work of `rank`, which `session` holds, and does all that it makes possible.
  void Submit(Session* session, Rank rank, const WorkRequest& request);

  // `rank` leaves in good order: what it has submitted still completes.
  void Leave(Rank rank);

  // The session that held these ranks has ended. `who` describes it.
  void SeatsLost(const std::vector<Rank>& ranks, Cause cause, const std::string& who);

  // Makes operations that run return soon; for the end of the daemon.
  void Abort() { communicator_->Abort(); }

  // --- What other nodes say (ClusterHost) ---
  void Ended(const Ending& ending);
  void DescribeMissing(Answer* answer) const;
  void AgreeSettled(const Settled& settled);
  void SendOffered(SendReady send);
  void SendAnswered(const SendTaken& taken);
  // The last collective known to be complete on all nodes: nobody agrees on the next before that.
  uint64_t CompletedEverywhere() const { return completed_ == 0 ? 0 : completed_ - 1; }

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
  // Where the collectives of an epoch over several nodes end.
  struct Close {
    uint64_t last = 0;
    Failure why;
  };
  struct Rates {
    MonotonicTime since;
    uint64_t ops = 0;
    uint64_t bytes = 0;
  };
  GroupLabel label() const { return {identity_.name, identity_.epoch}; }
  template <typename Visit>
  void ForEachSequence(Visit visit) {
    visit(&collectives_);
    for (auto& [pair, sequence] : transfers_) visit(&sequence);
  }

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

  // --- Over several nodes (group_across.cc, group_transfers.cc) ---
  bool across() const { return leg_ != nullptr; }
  size_t NodeOf(Rank rank) const { return node_of_[rank]; }
  bool IsHere(Rank rank) const { return node_of_[rank] == identity_.node; }
  bool IsAcross(const OpSequence& sequence) const;
  bool SendsAcross(const OpSequence& sequence) const;
  bool ReceivesAcross(const OpSequence& sequence) const;
  Place PlaceOf(const OpSequence& sequence, uint64_t place) const;
  // False: nothing more can be done with the front now.
  bool AdvanceAcross(OpSequence* sequence, const std::shared_ptr<Operation>& operation);
  bool AdvanceCollective(const std::shared_ptr<Operation>& operation);
  bool AdvanceTransfer(OpSequence* sequence, const std::shared_ptr<Operation>& operation);
  void StartAgreed(const std::shared_ptr<Operation>& operation, const Words& words);
  void RanAgreed(const std::shared_ptr<Operation>& operation, const NodeAgreement& agreement,
                 const absl::Status& status);
  // `operation`: null if nobody of this node had submitted one there.
  void RanLast(const std::shared_ptr<Operation>& operation, const NodeAgreement& agreement);
  void StartTransfer(TaskRunner* runner, OpSequence* sequence,
                     const std::shared_ptr<Operation>& operation);
  void RanTransfer(OpSequence* sequence, const std::shared_ptr<Operation>& operation,
                   const absl::Status& status);
  void Settle(const std::shared_ptr<Operation>& operation);
  // The communicator has failed: the coordinator is told, and `operation` waits for its verdict.
  void Broke(Operation* operation, const absl::Status& status);
  // Of a rank of another node, which has an operation of its own there.
  std::unique_ptr<Work> RemoteWork(Rank rank, Signature signature) const;
  void OfferSend(const OpSequence& sequence, const Operation& operation);
  void AnswerSend(const OpSequence& sequence, uint64_t place, std::optional<Failure> failure);
  void CloseAfter(uint64_t last, const Failure& why);
  void StartClosing();
  void LeaveAcross(Rank rank, const Failure& why);
  void CapPairs(const Ending& ending);
  void EndAcross(const Failure& failure);
  void CheckFinished();
  std::string DescribeMissingRank(Rank rank, const Operation* operation) const;

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

  Group(GroupIdentity identity, const std::vector<SessionId>& sessions,
        std::shared_ptr<Communicator> communicator, std::unique_ptr<Leg> leg,
        const GroupServices* services, const GroupPeers* peers);

  const GroupIdentity identity_;
  const GroupServices* const services_;
  const GroupPeers* const peers_;
  const std::unique_ptr<Leg> leg_;  // null if all ranks are on this node
  const std::shared_ptr<Communicator> communicator_;
  std::vector<size_t> node_of_;  // by rank

  GroupState state_ = GroupState::kReady;
  std::optional<Failure> failure_;
  std::vector<Seat> seats_;
  OpSequence collectives_;
  std::map<std::pair<Rank, Rank>, OpSequence> transfers_;

  Recorder recorder_;
  uint64_t completed_ = 0;  // place of the last collective that has ended
  std::optional<Close> close_;
  // The exchange that says so to the other nodes.
  enum class Closing : uint8_t { kNo, kRunning, kDone } closing_ = Closing::kNo;
  // Agrees that have been settled before they ended here.
  std::map<uint64_t, bool> settled_;
  uint64_t ops_done_ = 0, ops_failed_ = 0;
  uint64_t bytes_done_ = 0;
  Rates window_;
  double ops_per_second_ = 0;
  double bytes_per_second_ = 0;
  bool changed_ = true;
  std::shared_ptr<const GroupSnapshot> shown_;
};
}  // namespace tutti
