#include "daemon/core/group_registry.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/log.h"

namespace tutti {
namespace {

// Then a join ends by itself that has heard nothing: of a seed or a coordinator that is out of
// reach.
constexpr absl::Duration kJoinGrace = absl::Seconds(1);

// Names of which something is remembered: at most 600 bytes each, 40 MiB in all.
constexpr size_t kNamesMax = 65536;

NodeId RandomId(const Dependencies& dependencies) {
  NodeId id(16, '\0');
  dependencies.random(id.data(), id.size());
  return id;
}

}  // namespace

GroupRegistry::GroupRegistry(const Limits* limits, const Dependencies* dependencies,
                             const GroupServices* services)
    : limits_(limits),
      dependencies_(dependencies),
      services_(services),
      alone_(dependencies->network != nullptr
                 ? nullptr
                 : std::make_unique<LoopbackNetwork>(
                       NodeInfo{.id = RandomId(*dependencies), .name = "", .address = ""},
                       dependencies->loop)),
      cluster_({.clock = dependencies->clock,
                .deadlines = services->deadlines,
                .random = dependencies->random,
                .network = alone_ != nullptr ? alone_.get() : dependencies->network,
                .host = this}),
      joins_(dependencies->loop, services->deadlines, kJoinGrace,
             [this](JoinId join) { JoinExpired(join); }),
      peers_{.cluster = &cluster_, .finished = [this](const EpochId& epoch_id) {
               if (const auto group = GroupOf(epoch_id)) {
                 Retire({group->identity().name_space, group->identity().name}, group);
               }
             }} {
  if (alone_ != nullptr) alone_->Start(&cluster_);
}

GroupRegistry::~GroupRegistry() = default;

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
  if (static_cast<uint64_t>(groups) + joins_.CountIn(name_space) >=
      limits_->groups_per_namespace_max) {
    return refuse(Cause::kLimit, absl::StrCat("one more group would exceed the limit of ",
                                              limits_->groups_per_namespace_max,
                                              " (groups_per_namespace_max); those that have "
                                              "ended count until their ranks have left them"));
  }
  return std::nullopt;
}

std::optional<Failure> GroupRegistry::InUse(const GroupKey& key, const JoinRequest& request) const {
  const auto current = current_.find(key);
  if (current == current_.end() || current->second->state() != GroupState::kReady) {
    return std::nullopt;
  }
  const Group& group = *current->second;
  const SessionId holder = request.rank < group.world_size() ? group.HolderOf(request.rank) : 0;
  const Session* const seated = holder == 0 ? nullptr : services_->find_session(holder);
  return Failure{
      .cause = Cause::kSeatTaken,
      .message = absl::StrCat("group ", Quoted(request.group), " (epoch ", group.identity().epoch,
                              ") is in use: its ", group.world_size(), " ranks have joined, rank ",
                              request.rank,
                              seated == nullptr ? "" : absl::StrCat(" is ", seated->Describe()),
                              "; leave it first, or use another name"),
      .group = request.group,
      .epoch = group.identity().epoch,
      .culprits = {request.rank}};
}

JoinId GroupRegistry::Join(Session* session, const JoinRequest& request, JoinCallback done) {
  const JoinId id = ++last_join_;
  const GroupKey key(session->info().name_space, request.group);
  std::optional<Failure> failure = Check(*session, request);
  if (!failure.has_value()) failure = InUse(key, request);
  if (failure.has_value()) {
    dependencies_->loop->Post(
        [done = std::move(done), failure = *std::move(failure)] { done(failure); });
    return id;
  }
  const MonotonicTime now = dependencies_->clock->Now();
  const bool default_timeout = request.join_timeout <= absl::ZeroDuration();
  Joiner joiner{.id = id,
                .key = key,
                .session = session->id(),
                .pid = session->info().pid,
                .who = session->Describe(),
                .request = request,
                .epoch = names_[key].last_epoch + 1,
                .joined = now,
                .deadline = now + (default_timeout ? limits_->join_timeout : request.join_timeout),
                .done = std::move(done)};
  if (joiner.request.backend.empty()) joiner.request.backend = "auto";
  if (joiner.request.work_timeout <= absl::ZeroDuration()) {
    joiner.request.work_timeout = limits_->work_timeout;
  }
  Offer offer = OfferOf(joiner);
  joins_.Add(std::move(joiner));
  cluster_.Join(std::move(offer));
  return id;
}

Offer GroupRegistry::OfferOf(const Joiner& joiner) {
  if (names_.size() > kNamesMax) names_.clear();
  const Name& name = names_[joiner.key];
  // Where the newest epoch has ended here, the seed may not know yet.
  const auto current = current_.find(joiner.key);
  return {.join = joiner.id,
          .key = joiner.key,
          .rank = joiner.request.rank,
          .terms = {.world_size = joiner.request.world_size,
                    .backend = joiner.request.backend,
                    .work_timeout = joiner.request.work_timeout},
          .time_left = joiner.deadline - joiner.joined,
          .who = joiner.who,
          .last_epoch = name.last_epoch,
          .over = current == current_.end() ? name.over : current->second->identity().epoch_id};
}

// --- Joins that end ---

void GroupRegistry::GiveUp(const std::vector<JoinId>& joins, const std::string& why) {
  for (const JoinId join : joins) {
    const auto joiner = joins_.Take(join);
    if (!joiner.has_value()) continue;
    cluster_.GiveUp(
        join, {.cause = Cause::kWithdrawn,
               .message = absl::StrCat("group ", Quoted(joiner->key.second), " did not form: rank ",
                                       joiner->request.rank, " (", joiner->who, ") ", why),
               .group = joiner->key.second,
               .culprits = {joiner->request.rank}});
  }
}

void GroupRegistry::CancelJoin(JoinId join) { GiveUp({join}, "has called its join off"); }

void GroupRegistry::JoinRefused(uint64_t join, const Failure& failure) {
  if (auto joiner = joins_.Take(join)) joins_.Reply(*std::move(joiner), failure);
}

void GroupRegistry::JoinExpired(JoinId join) {
  const Joiner& joiner = *joins_.Find(join);
  const std::string& group = joiner.key.second;
  const std::string waited = absl::FormatDuration(joiner.deadline - joiner.joined);
  const bool found = cluster_.seed_node().has_value();
  const Failure failure{
      .cause = found ? Cause::kDeadline : Cause::kNodeLost,
      .message = absl::StrCat("group ", Quoted(group), " did not form in ", waited, ": ",
                              found ? "its nodes have not connected to each other"
                                    : "the daemon that introduces nodes to each other (--join) "
                                      "can't be reached"),
      .group = group};
  cluster_.GiveUp(join, failure);
  JoinRefused(join, failure);
}

// --- Groups that live ---

std::shared_ptr<Group> GroupRegistry::GroupOf(const EpochId& epoch_id) const {
  const auto found = live_.find(epoch_id);
  return found == live_.end() ? nullptr : found->second.lock();
}

void GroupRegistry::EpochEnded(const EpochId& epoch_id, const Ending& ending) {
  if (!ending.closed && lingering_.erase(epoch_id) > 0) return;
  if (const auto group = GroupOf(epoch_id)) return group->Ended(ending);
  const auto forming = forming_.extract(epoch_id);
  if (!forming.empty()) names_[forming.mapped().roster.key].over = epoch_id;
}

void GroupRegistry::DescribeMissing(const EpochId& epoch_id, Answer* answer) {
  if (const auto group = GroupOf(epoch_id)) group->DescribeMissing(answer);
}

void GroupRegistry::AgreeSettled(const Settled& settled) {
  if (const auto group = GroupOf(settled.epoch_id)) group->AgreeSettled(settled);
}

uint64_t GroupRegistry::CompletedOf(const EpochId& epoch_id) {
  const auto group = GroupOf(epoch_id);
  return group == nullptr ? 0 : group->CompletedEverywhere();
}

void GroupRegistry::SendOffered(SendReady send) {
  if (const auto group = GroupOf(send.epoch_id)) group->SendOffered(std::move(send));
}

void GroupRegistry::SendAnswered(const SendTaken& taken) {
  if (const auto group = GroupOf(taken.epoch_id)) group->SendAnswered(taken);
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
  GiveUp(joins_.Matching([&](const Joiner& joiner) {
    return joiner.session == session->id() && joiner.request.number == join_number;
  }),
         "has called its join off");
  for (const MembershipId membership : session->memberships()) {
    if (memberships_.at(membership).join_number != join_number) continue;
    return Leave(session, membership);
  }
}

void GroupRegistry::SessionGone(Session* session, Cause cause) {
  GiveUp(joins_.Matching([&](const Joiner& joiner) { return joiner.session == session->id(); }),
         "has gone");
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
  // What its ranks have submitted, other nodes still wait for.
  if (!group->empty() || !group->finished()) return;
  const EpochId& epoch_id = group->identity().epoch_id;
  // A communicator whose other end is gone fails what runs on it.
  if (group->state() != GroupState::kFailed && group->identity().nodes.size() > 1) {
    lingering_[epoch_id] = group;
  }
  cluster_.Leave(epoch_id);
  names_[key].over = epoch_id;
  live_.erase(epoch_id);
  past_.push_front(group->Show());
  if (past_.size() > kPastGroupsMax) past_.pop_back();
  const auto current = current_.find(key);
  if (current != current_.end() && current->second == group) current_.erase(current);
  std::erase_if(superseded_, [&](const auto& entry) { return entry.second == group; });
}

void GroupRegistry::Refuse(const Failure& failure) {
  refusing_ = failure;
  for (const JoinId join : joins_.Matching([](const Joiner&) { return true; })) {
    cluster_.GiveUp(join, failure);
    JoinRefused(join, failure);
  }
}

void GroupRegistry::AbortAll() {
  for (const auto& [key, group] : current_) group->Abort();
  for (const auto& [key, group] : superseded_) group->Abort();
}

void GroupRegistry::ReportStalls() {
  for (const auto& [key, group] : current_) group->ReportStalls();
}

std::vector<std::shared_ptr<const GroupSnapshot>> GroupRegistry::Show() {
  std::vector<std::shared_ptr<const GroupSnapshot>> all = joins_.Show();
  for (const auto& [key, group] : current_) all.push_back(group->Show());
  for (const auto& [key, group] : superseded_) all.push_back(group->Show());
  all.insert(all.end(), past_.begin(), past_.end());
  return all;
}

}  // namespace tutti
