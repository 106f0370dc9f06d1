// All groups of the daemon: who may join which, who holds which seat, and what has ended. The
// cluster says which joins make a group together; the joins and the groups themselves are here.
//
// Lives on the control loop; owned by the core.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/cluster/cluster.h"
#include "daemon/cluster/loopback_network.h"
#include "daemon/core/core.h"
#include "daemon/core/group.h"
#include "daemon/core/join_table.h"
#include "daemon/core/leg.h"

namespace tutti {

class GroupRegistry final : public ClusterHost {
 public:
  // What `dependencies` and `services` point to must outlive this.
  GroupRegistry(const Limits* limits, const Dependencies* dependencies,
                const GroupServices* services);
  ~GroupRegistry() override;

  // Core::Join. The session must exist.
  JoinId Join(Session* session, const JoinRequest& request, JoinCallback done);
  void CancelJoin(JoinId join);

  // The group and rank of a membership that `session` holds; null if it holds no such.
  struct Seat {
    std::shared_ptr<Group> group;
    Rank rank = 0;
  };
  const Seat* Find(SessionId session, MembershipId membership) const;

  void Leave(Session* session, MembershipId membership);
  // Core::CallOff.
  void CallOff(Session* session, uint64_t join_number);

  // Ends all that the session has to do with groups.
  void SessionGone(Session* session, Cause cause);

  // From now on joins fail with `failure`, those that wait included.
  void Refuse(const Failure& failure);

  // What other daemons say.
  PeerListener* peers() { return &cluster_; }

  void AbortAll();
  void ReportStalls();
  std::vector<std::shared_ptr<const GroupSnapshot>> Show();

  // --- ClusterHost ---
  void JoinRefused(uint64_t join, const Failure& failure) override;
  void EpochEntered(const Roster& roster, size_t node) override;
  void NodesMet(const EpochId& epoch_id, const std::vector<std::string>& addresses) override;
  void EpochLive(const EpochId& epoch_id) override;
  void EpochEnded(const EpochId& epoch_id, const Ending& ending) override;
  void DescribeMissing(const EpochId& epoch_id, Answer* answer) override;
  void AgreeSettled(const Settled& settled) override;
  uint64_t CompletedOf(const EpochId& epoch_id) override;
  void SendOffered(SendReady send) override;
  void SendAnswered(const SendTaken& taken) override;

 private:
  struct Membership {
    SessionId session = 0;
    GroupKey key;
    Seat seat;
    uint64_t join_number = 0;
  };
  // An epoch that has the joins of this node, and is not live yet.
  struct Forming {
    Roster roster;
    size_t node = 0;
    Backend* backend = nullptr;
    std::shared_ptr<Communicator> local;  // if all ranks are on this node
    std::unique_ptr<Leg> leg;             // else
  };
  // What is known of a name.
  struct Name {
    uint64_t last_epoch = 0;
    EpochId over;
  };

  std::optional<Failure> Check(const Session& session, const JoinRequest& request) const;
  std::optional<Failure> InUse(const GroupKey& key, const JoinRequest& request) const;
  Offer OfferOf(const Joiner& joiner);
  Backend* BackendNamed(const std::string& name) const;
  // Null, saying why, if none serves so many nodes.
  Backend* BackendFor(const Roster& roster, std::string* why_not) const;
  void GiveUp(const std::vector<JoinId>& joins, const std::string& why);
  void JoinExpired(JoinId join);
  void FailForming(const Roster& roster, Cause cause, const std::string& message);
  void Connect(Forming* forming);
  std::shared_ptr<Group> Make(Forming forming, std::vector<Joiner>* joiners);
  void SeatAll(const std::shared_ptr<Group>& group, const GroupKey& key,
               std::vector<Joiner> joiners);
  std::shared_ptr<Group> GroupOf(const EpochId& epoch_id) const;
  void Retire(const GroupKey& key, const std::shared_ptr<Group>& group);

  const Limits* const limits_;
  const Dependencies* const dependencies_;
  const GroupServices* const services_;
  std::unique_ptr<LoopbackNetwork> alone_;  // if there is no other network
  Cluster cluster_;
  JoinTable joins_;
  const GroupPeers peers_;
  std::map<GroupKey, Name> names_;
  std::map<EpochId, Forming> forming_;
  std::map<EpochId, std::weak_ptr<Group>> live_;
  // The newest epoch of each name, while somebody holds a seat in it.
  std::map<GroupKey, std::shared_ptr<Group>> current_;
  // Older epochs in which somebody still holds a seat.
  std::vector<std::pair<GroupKey, std::shared_ptr<Group>>> superseded_;
  // Over several nodes: nobody here needs them, but other nodes do.
  std::map<EpochId, std::shared_ptr<Group>> lingering_;
  // What epochs looked like when the last seat was given back; the newest first.
  std::deque<std::shared_ptr<const GroupSnapshot>> past_;
  std::map<MembershipId, Membership> memberships_;
  MembershipId last_membership_ = 0;
  JoinId last_join_ = 0;
  std::optional<Failure> refusing_;
};

}  // namespace tutti
