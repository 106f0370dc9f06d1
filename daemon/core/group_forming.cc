// How the registry makes a group of the joins that the cluster has found to belong together: it
// connects their nodes, and seats the ranks when all are connected.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/log.h"
#include "daemon/core/group_registry.h"

namespace tutti {
namespace {

// "198.51.100.1:7000", "[2001:db8::1]:7000".
std::string HostOf(const std::string& address) {
  std::string host = address.substr(0, address.rfind(':'));
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  return host;
}

}  // namespace

Backend* GroupRegistry::BackendFor(const Roster& roster, std::string* why_not) const {
  const std::string& name = roster.terms.backend;
  size_t most = 0;
  for (Backend* const backend : dependencies_->backends) {
    if (name != "auto" && backend->name() != name) continue;
    if (roster.nodes.size() <= backend->nodes_max()) return backend;
    most = std::max(most, backend->nodes_max());
  }
  *why_not = absl::StrCat("its ranks are on ", roster.nodes.size(), " nodes, and backend ",
                          Quoted(name), " serves ", most, " at most",
                          most > 1 ? ": make several groups of fewer nodes" : "");
  return nullptr;
}

void GroupRegistry::EpochEntered(const Roster& roster, size_t node) {
  Name& name = names_[roster.key];
  name.last_epoch = std::max(name.last_epoch, roster.epoch);
  Forming forming{.roster = roster, .node = node};
  std::string why_not;
  forming.backend = BackendFor(roster, &why_not);
  Forming& entered = forming_.emplace(roster.epoch_id, std::move(forming)).first->second;
  if (entered.backend == nullptr) return FailForming(roster, Cause::kUnsupported, why_not);
  Connect(&entered);
}

void GroupRegistry::FailForming(const Roster& roster, Cause cause, const std::string& message) {
  const std::string& group = roster.key.second;
  cluster_.Fail(roster.epoch_id,
                {.failure = {.cause = cause,
                             .message = absl::StrCat("group ", Quoted(group), " (epoch ",
                                                     roster.epoch, ") did not form: ", message),
                             .group = group,
                             .epoch = roster.epoch}});
}

void GroupRegistry::Connect(Forming* forming) {
  const Roster& roster = forming->roster;
  GroupSpec spec{.world_size = roster.terms.world_size,
                 .local_ranks = RanksOf(roster.nodes[forming->node]),
                 .node = forming->node,
                 .epoch_id = roster.epoch_id};
  if (roster.nodes.size() == 1) {
    auto connected = forming->backend->Connect(spec);
    if (!connected.ok()) {
      return FailForming(roster, Cause::kBackend, std::string(connected.status().message()));
    }
    forming->local = *std::move(connected);
    return cluster_.Connect(roster.epoch_id);
  }
  for (const RosterNode& node : roster.nodes) spec.nodes.push_back(RanksOf(node));
  spec.host = HostOf(roster.nodes[forming->node].node.address);
  forming->leg = std::make_unique<Leg>(Leg::Services{.loop = dependencies_->loop,
                                                     .reaper = dependencies_->reaper,
                                                     .make_runner = dependencies_->make_runner});
  // The leg is gone before this is.
  forming->leg->Connect(
      forming->backend, std::move(spec),
      [this, epoch_id = roster.epoch_id](const std::string& mine) {
        cluster_.Enter(epoch_id, mine);
      },
      [this, epoch_id = roster.epoch_id](const absl::Status& status) {
        if (status.ok()) return cluster_.Connect(epoch_id);
        const auto found = forming_.find(epoch_id);
        if (found == forming_.end()) return;
        FailForming(found->second.roster, Cause::kBackend, std::string(status.message()));
      });
}

void GroupRegistry::NodesMet(const EpochId& epoch_id, const std::vector<std::string>& addresses) {
  const auto found = forming_.find(epoch_id);
  if (found != forming_.end() && found->second.leg != nullptr) found->second.leg->Met(addresses);
}

void GroupRegistry::EpochLive(const EpochId& epoch_id) {
  const auto found = forming_.find(epoch_id);
  TUTTI_CHECK(found != forming_.end());
  Forming forming = std::move(forming_.extract(found).mapped());
  const GroupKey key = forming.roster.key;
  std::vector<Joiner> joiners;
  const std::shared_ptr<Group> group = Make(std::move(forming), &joiners);
  live_[epoch_id] = group;
  auto& current = current_[key];
  if (current != nullptr) superseded_.emplace_back(key, current);
  current = group;
  SeatAll(group, key, std::move(joiners));
}

std::shared_ptr<Group> GroupRegistry::Make(Forming forming, std::vector<Joiner>* joiners) {
  const Roster& roster = forming.roster;
  GroupIdentity identity{.name_space = roster.key.first,
                         .name = roster.key.second,
                         .epoch = roster.epoch,
                         .epoch_id = roster.epoch_id,
                         .backend = forming.backend,
                         .work_timeout = roster.terms.work_timeout,
                         .world_size = roster.terms.world_size,
                         .nodes = {},
                         .node = forming.node};
  for (const RosterNode& node : roster.nodes) {
    identity.nodes.push_back({node.node.name, RanksOf(node)});
  }
  std::vector<SessionId> sessions(roster.terms.world_size);
  for (const tutti::Seat& seat : roster.nodes[forming.node].seats) {
    auto joiner = joins_.Take(seat.join);
    // One that has given up meanwhile: the coordinator has been told.
    if (!joiner.has_value()) continue;
    sessions[seat.rank] = joiner->session;
    joiners->push_back(*std::move(joiner));
  }
  LogInfo("group.ready group={} epoch={} ranks={} nodes={} backend={}", Quoted(identity.name),
          identity.epoch, identity.world_size, identity.nodes.size(), identity.backend->name());
  if (forming.leg == nullptr) {
    return std::make_shared<Group>(std::move(identity), sessions, std::move(forming.local),
                                   services_, &peers_);
  }
  return std::make_shared<Group>(std::move(identity), sessions, std::move(forming.leg), services_,
                                 &peers_);
}

void GroupRegistry::SeatAll(const std::shared_ptr<Group>& group, const GroupKey& key,
                            std::vector<Joiner> joiners) {
  for (Joiner& joiner : joiners) {
    const MembershipId membership = ++last_membership_;
    memberships_[membership] = {.session = joiner.session,
                                .key = key,
                                .seat = {group, joiner.request.rank},
                                .join_number = joiner.request.number};
    services_->find_session(joiner.session)->memberships().insert(membership);
    joins_.Reply(std::move(joiner), Joined{.membership = membership,
                                           .epoch = group->identity().epoch,
                                           .epoch_id = group->identity().epoch_id,
                                           .work_timeout = group->identity().work_timeout});
  }
  // All of them may have given up.
  Retire(key, group);
}

}  // namespace tutti
