#include "daemon/core/group_registry.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/log.h"

namespace tutti {

GroupRegistry::GroupRegistry(const Limits* limits, const Dependencies* dependencies,
                             const GroupServices* services)
    : limits_(limits),
      dependencies_(dependencies),
      services_(services),
      rendezvous_(dependencies->clock, dependencies->loop, services->deadlines,
                  [this](Formation formation) { Formed(std::move(formation)); }) {}

Backend* GroupRegistry::BackendNamed(const std::string& name) const {
  for (Backend* const backend : dependencies_->backends) {
    if (name.empty() || name == "auto" || backend->name() == name) return backend;
  }
  return nullptr;
}

std::optional<Failure> GroupRegistry::Check(const Session& session,
                                            const JoinRequest& request) const {
  const auto refuse = [&](Cause cause, std::string message) {
    return Failure{.cause = cause, .message = std::move(message), .group = request.group};
  };
  if (refusing_.has_value()) return refusing_;
  if (request.group.empty() || request.group.size() > kNameBytesMax) {
    return refuse(Cause::kInvalid, absl::StrCat("a group's name has 1 to ", kNameBytesMax,
                                                " bytes, not ", request.group.size()));
  }
  if (request.world_size == 0 || request.rank >= request.world_size) {
    return refuse(Cause::kInvalid, absl::StrCat("rank ", request.rank, " of world size ",
                                                request.world_size, ": must be below it"));
  }
  if (request.world_size > limits_->world_size_max) {
    return refuse(Cause::kLimit,
                  absl::StrCat("world size ", request.world_size, " exceeds the limit of ",
                               limits_->world_size_max, " (world_size_max)"));
  }
  if (std::max(request.work_timeout, request.join_timeout) > limits_->timeout_max) {
    return refuse(Cause::kLimit,
                  absl::StrCat("timeouts may not exceed ",
                               absl::FormatDuration(limits_->timeout_max), " (timeout_max_ms)"));
  }
  if (BackendNamed(request.backend) == nullptr) {
    const std::string have = absl::StrJoin(
        dependencies_->backends, ", ",
        [](std::string* out, const Backend* backend) { out->append(backend->name()); });
    return refuse(Cause::kInvalid, absl::StrCat("no backend ", Quoted(request.backend),
                                                " here; there is: auto, ", have));
  }
  const std::string& name_space = session.info().name_space;
  // Epochs that have ended count as well, for as long as somebody holds a seat in them.
  const auto ours = [&](const auto& entry) { return entry.first.first == name_space; };
  const auto groups = std::count_if(current_.begin(), current_.end(), ours) +
                      std::count_if(superseded_.begin(), superseded_.end(), ours);
  if (static_cast<uint64_t>(groups) + rendezvous_.CountIn(name_space) >=
      limits_->groups_per_namespace_max) {
    return refuse(Cause::kLimit, absl::StrCat("one more group would exceed the limit of ",
                                              limits_->groups_per_namespace_max,
                                              " (groups_per_namespace_max); those that have "
                                              "ended count until their ranks have left them"));
  }
  return std::nullopt;
}

JoinId GroupRegistry::Join(Session* session, const JoinRequest& request, JoinCallback done) {
  const JoinId id = ++last_join_;
  const auto refuse = [&](Failure failure) {
    dependencies_->loop->Post(
        [done = std::move(done), failure = std::move(failure)] { done(failure); });
    return id;
  };
  if (auto failure = Check(*session, request)) return refuse(*std::move(failure));
  const GroupKey key(session->info().name_space, request.group);
  const auto current = current_.find(key);
  if (current != current_.end() && current->second->state() == GroupState::kReady) {
    const Group& group = *current->second;
    const SessionId holder = request.rank < group.world_size() ? group.HolderOf(request.rank) : 0;
    const Session* const seated = holder == 0 ? nullptr : services_->find_session(holder);
    return refuse(
        {.cause = Cause::kSeatTaken,
         .message = absl::StrCat("group ", Quoted(request.group), " (epoch ",
                                 group.identity().epoch, ") is in use: its ", group.world_size(),
                                 " ranks have joined, rank ", request.rank,
                                 seated == nullptr ? "" : absl::StrCat(" is ", seated->Describe()),
                                 "; leave it first, or use another name"),
         .group = request.group,
         .epoch = group.identity().epoch,
         .culprits = {request.rank}});
  }
  const MonotonicTime now = dependencies_->clock->Now();
  const bool default_timeout = request.join_timeout <= absl::ZeroDuration();
  Joiner joiner{.id = id,
                .session = session->id(),
                .pid = session->info().pid,
                .who = session->Describe(),
                .request = request,
                .joined = now,
                .deadline = now + (default_timeout ? limits_->join_timeout : request.join_timeout),
                .done = std::move(done)};
  if (joiner.request.backend.empty()) joiner.request.backend = "auto";
  if (joiner.request.work_timeout <= absl::ZeroDuration()) {
    joiner.request.work_timeout = limits_->work_timeout;
  }
  rendezvous_.Join(key, std::move(joiner));
  return id;
}

void GroupRegistry::Formed(Formation formation) {
  const JoinRequest& request = formation.joiners.front().request;
  GroupIdentity identity{.name_space = formation.key.first,
                         .name = formation.key.second,
                         .epoch = formation.epoch,
                         .epoch_id = std::string(16, '\0'),
                         .backend = BackendNamed(request.backend),
                         .work_timeout = request.work_timeout};
  dependencies_->random(identity.epoch_id.data(), identity.epoch_id.size());
  GroupSpec spec{.world_size = request.world_size, .local_ranks = {}};
  std::vector<SessionId> sessions;
  for (const Joiner& joiner : formation.joiners) {
    spec.local_ranks.push_back(joiner.request.rank);
    sessions.push_back(joiner.session);
  }
  const auto reply = [&](const Joiner& joiner, Result<Joined> result) {
    dependencies_->loop->Post([done = joiner.done, result = std::move(result)] { done(result); });
  };
  absl::StatusOr<std::unique_ptr<Communicator>> communicator = identity.backend->Connect(spec);
  if (!communicator.ok()) {
    const Failure failure{.cause = Cause::kBackend,
                          .message = std::string(communicator.status().message()),
                          .group = identity.name,
                          .epoch = identity.epoch};
    for (const Joiner& joiner : formation.joiners) reply(joiner, failure);
    return;
  }
  LogInfo("group.ready group={} epoch={} ranks={} backend={}", Quoted(identity.name),
          identity.epoch, request.world_size, identity.backend->name());
  const Joined joined{.membership = 0,
                      .epoch = identity.epoch,
                      .epoch_id = identity.epoch_id,
                      .work_timeout = identity.work_timeout};
  auto group =
      std::make_shared<Group>(std::move(identity), sessions, *std::move(communicator), services_);
  auto& current = current_[formation.key];
  if (current != nullptr) superseded_.emplace_back(formation.key, current);
  current = group;
  for (const Joiner& joiner : formation.joiners) {
    Joined mine = joined;
    mine.membership = ++last_membership_;
    memberships_[mine.membership] = {.session = joiner.session,
                                     .key = formation.key,
                                     .seat = {group, joiner.request.rank},
                                     .join_number = joiner.request.number};
    services_->find_session(joiner.session)->memberships().insert(mine.membership);
    reply(joiner, mine);
  }
}

const GroupRegistry::Seat* GroupRegistry::Find(SessionId session, MembershipId membership) const {
  const auto found = memberships_.find(membership);
  if (found == memberships_.end() || found->second.session != session) return nullptr;
  return &found->second.seat;
}

void GroupRegistry::Leave(Session* session, MembershipId membership) {
  if (Find(session->id(), membership) == nullptr) return;
  const Membership left = std::move(memberships_.extract(membership).mapped());
  session->memberships().erase(membership);
  left.seat.group->Leave(left.seat.rank);
  Retire(left.key, left.seat.group);
}

void GroupRegistry::CallOff(Session* session, uint64_t join_number) {
  if (join_number == 0) return;
  rendezvous_.Cancel(session->id(), join_number);
  for (const MembershipId membership : session->memberships()) {
    if (memberships_.at(membership).join_number != join_number) continue;
    return Leave(session, membership);
  }
}

void GroupRegistry::SessionGone(Session* session, Cause cause) {
  rendezvous_.SessionGone(session->id());
  // One verdict per group, naming all ranks that the session held in it.
  std::map<std::shared_ptr<Group>, std::pair<GroupKey, std::vector<Rank>>> lost;
  for (const MembershipId membership : session->memberships()) {
    const Membership gone = std::move(memberships_.extract(membership).mapped());
    auto& [key, ranks] = lost[gone.seat.group];
    key = gone.key;
    ranks.push_back(gone.seat.rank);
  }
  session->memberships().clear();
  for (auto& [group, what] : lost) {
    std::sort(what.second.begin(), what.second.end());
    group->SeatsLost(what.second, cause, session->Describe());
    Retire(what.first, group);
  }
}

void GroupRegistry::Retire(const GroupKey& key, const std::shared_ptr<Group>& group) {
  if (!group->empty()) return;
  past_.push_front(group->Show());
  if (past_.size() > kPastGroupsMax) past_.pop_back();
  const auto current = current_.find(key);
  if (current != current_.end() && current->second == group) current_.erase(current);
  std::erase_if(superseded_, [&](const auto& entry) { return entry.second == group; });
}

void GroupRegistry::Refuse(const Failure& failure) {
  refusing_ = failure;
  rendezvous_.FailAll(failure);
}

void GroupRegistry::AbortAll() {
  for (const auto& [key, group] : current_) group->Abort();
  for (const auto& [key, group] : superseded_) group->Abort();
}

void GroupRegistry::ReportStalls() {
  for (const auto& [key, group] : current_) group->ReportStalls();
}

std::vector<std::shared_ptr<const GroupSnapshot>> GroupRegistry::Show() {
  std::vector<std::shared_ptr<const GroupSnapshot>> all = rendezvous_.Show();
  for (const auto& [key, group] : current_) all.push_back(group->Show());
  for (const auto& [key, group] : superseded_) all.push_back(group->Show());
  all.insert(all.end(), past_.begin(), past_.end());
  return all;
}

}  // namespace tutti
