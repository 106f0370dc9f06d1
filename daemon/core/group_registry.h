// All groups of the daemon: who may join which, who holds which seat, and what has ended.
//
// Lives on the control loop; owned by the core.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/core/core.h"
#include "daemon/core/group.h"
#include "daemon/core/rendezvous.h"

namespace tutti {

class GroupRegistry {
 public:
  // What `dependencies` and `services` point to must outlive this.
  GroupRegistry(const Limits* limits, const Dependencies* dependencies,
                const GroupServices* services);

  // Core::Join. The session must exist.
  JoinId Join(Session* session, const JoinRequest& request, JoinCallback done);
  void CancelJoin(JoinId join) { rendezvous_.Cancel(join); }

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

  void AbortAll();
  void ReportStalls();
  std::vector<std::shared_ptr<const GroupSnapshot>> Show();

 private:
  struct Membership {
    SessionId session = 0;
    GroupKey key;
    Seat seat;
    uint64_t join_number = 0;
  };

  std::optional<Failure> Check(const Session& session, const JoinRequest& request) const;
  Backend* BackendNamed(const std::string& name) const;
  void Formed(Formation formation);
  void Retire(const GroupKey& key, const std::shared_ptr<Group>& group);

  const Limits* const limits_;
  const Dependencies* const dependencies_;
  const GroupServices* const services_;
  Rendezvous rendezvous_;
  // The newest epoch of each name, while somebody holds a seat in it.
  std::map<GroupKey, std::shared_ptr<Group>> current_;
  // Older epochs in which somebody still holds a seat.
  std::vector<std::pair<GroupKey, std::shared_ptr<Group>>> superseded_;
  // What epochs looked like when the last seat was given back; the newest first.
  std::deque<std::shared_ptr<const GroupSnapshot>> past_;
  std::map<MembershipId, Membership> memberships_;
  MembershipId last_membership_ = 0;
  JoinId last_join_ = 0;
  std::optional<Failure> refusing_;
};

}  // namespace tutti
