#include "daemon/cluster/seed.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace tutti {
namespace {

// Names whose last epoch is remembered: at most 512 bytes each, 32 MiB in all.
constexpr size_t kEpochsRememberedMax = 65536;

constexpr size_t kEpochIdBytes = 16;

}  // namespace

struct Seed::Joiner {
  NodeInfo node;
  Offer offer;
  MonotonicTime deadline;

  bool Is(const NodeInfo& from, uint64_t join) const {
    return node.id == from.id && offer.join == join;
  }
};

struct Seed::Forming {
  uint64_t epoch = 0;
  MonotonicTime began;
  std::map<Rank, Joiner> joiners;
  std::optional<DeadlineQueue::Handle> deadline;

  MonotonicTime deadline_at = absl::InfiniteFuture();

  const GroupTerms& terms() const { return joiners.begin()->second.offer.terms; }
  bool complete() const { return joiners.size() == terms().world_size; }
  std::vector<Rank> Missing() const {
    std::vector<Rank> missing;
    for (Rank rank = 0; rank < terms().world_size; ++rank) {
      if (!joiners.contains(rank)) missing.push_back(rank);
    }
    return missing;
  }
};

struct Seed::InUse {
  EpochId epoch_id;
  NodeInfo coordinator;
  // Until it is live: whose joins it has. They may not have heard of it.
  std::vector<Joiner> introduced;
  // Who wants the name; the coordinator has been asked whether it is still in use.
  std::vector<Joiner> challengers;
};

namespace {

Failure Disagreement(const std::vector<Rank>& others, const GroupTerms& theirs, const Offer& offer,
                     uint64_t epoch) {
  const GroupTerms& ours = offer.terms;
  std::string field;
  std::pair<std::string, std::string> values;
  if (theirs.world_size != ours.world_size) {
    field = "world size";
    values = {absl::StrCat(theirs.world_size), absl::StrCat(ours.world_size)};
  } else if (theirs.backend != ours.backend) {
    field = "backend";
    values = {theirs.backend, ours.backend};
  } else {
    field = "work timeout";
    values = {absl::FormatDuration(theirs.work_timeout), absl::FormatDuration(ours.work_timeout)};
  }
  const std::string& group = offer.key.second;
  return Failure{
      .cause = Cause::kMismatch,
      .message = absl::StrCat("group ", Quoted(group), ": joiners disagree on ", field, " (",
                              DescribeRanks(others), ": ", values.first, "; rank ", offer.rank,
                              ": ", values.second, "); all of them failed, join again"),
      .group = group,
      .epoch = epoch,
      .culprits = {offer.rank}};
}

// Nodes in the order of their lowest ranks.
template <typename Joiners>
std::vector<RosterNode> NodesOf(const Joiners& joiners) {
  std::vector<RosterNode> nodes;
  std::map<NodeId, size_t> places;
  for (const auto& [rank, joiner] : joiners) {
    const auto [place, added] = places.try_emplace(joiner.node.id, nodes.size());
    if (added) nodes.push_back({joiner.node, {}});
    nodes[place->second].seats.push_back({rank, joiner.offer.join});
  }
  return nodes;
}

}  // namespace

Seed::Seed(Services services) : services_(std::move(services)) {}

Seed::~Seed() = default;

void Seed::OpenAt(MonotonicTime opens) {
  opens_ = opens;
  for (auto forming = forming_.begin(); forming != forming_.end(); ++forming) {
    if (!forming->second.complete()) continue;
    forming->second.deadline_at = std::min(forming->second.deadline_at, opens_);
    Rearm(forming);
  }
}

void Seed::Close() {
  opens_ = absl::InfiniteFuture();
  for (auto& [key, forming] : forming_) {
    if (forming.deadline.has_value()) services_.deadlines->Remove(*forming.deadline);
  }
  forming_.clear();
  in_use_.clear();
}

uint64_t Seed::NextEpoch(const Offer& offer) {
  if (epochs_.size() >= kEpochsRememberedMax && !epochs_.contains(offer.key)) {
    for (const auto& [name, epoch] : epochs_) epoch_floor_ = std::max(epoch_floor_, epoch);
    epochs_.clear();
  }
  uint64_t& last = epochs_.try_emplace(offer.key, epoch_floor_).first->second;
  last = std::max(last, offer.last_epoch) + 1;
  return last;
}

void Seed::Heard(const NodeInfo& from, const Offer& offer) {
  const auto used = in_use_.find(offer.key);
  if (used != in_use_.end() && used->second.epoch_id == offer.over) Free(used);
  Consider({from, offer, services_.clock->Now() + offer.time_left});
}

void Seed::Consider(const Joiner& joiner) {
  const auto used = in_use_.find(joiner.offer.key);
  if (used == in_use_.end()) return Take(joiner);
  std::vector<Joiner>& challengers = used->second.challengers;
  for (const Joiner& other : challengers) {
    if (other.Is(joiner.node, joiner.offer.join)) return;  // said again
  }
  challengers.push_back(joiner);
  if (challengers.size() > 1) return;
  services_.say(used->second.coordinator, Challenge{used->second.epoch_id});
}

void Seed::Take(const Joiner& joiner) {
  const Offer& offer = joiner.offer;
  auto [found, added] = forming_.try_emplace(offer.key);
  Forming& forming = found->second;
  if (added) {
    forming.epoch = NextEpoch(offer);
    forming.began = services_.clock->Now();
  } else if (forming.terms() != offer.terms) {
    std::vector<Rank> others;
    for (const auto& [rank, other] : forming.joiners) others.push_back(rank);
    const Failure failure = Disagreement(others, forming.terms(), offer, forming.epoch);
    Refuse(joiner, failure);
    return Fail(found, failure);
  }
  const auto [seat, taken] = forming.joiners.try_emplace(offer.rank, joiner);
  if (!taken && seat->second.Is(joiner.node, offer.join)) return;  // said again
  if (!taken) {
    return Refuse(joiner, {.cause = Cause::kSeatTaken,
                           .message = absl::StrCat("rank ", offer.rank, " of group ",
                                                   Quoted(offer.key.second), " is taken by ",
                                                   seat->second.offer.who),
                           .group = offer.key.second,
                           .epoch = forming.epoch,
                           .culprits = {offer.rank}});
  }
  if (forming.complete() && services_.clock->Now() >= opens_) return Introduce(found);
  forming.deadline_at = std::min(forming.deadline_at, joiner.deadline);
  // Complete before its time: it opens then.
  if (forming.complete()) forming.deadline_at = std::min(forming.deadline_at, opens_);
  Rearm(found);
}

void Seed::Introduce(FormingMap::iterator found) {
  auto node = forming_.extract(found);
  const Forming& forming = node.mapped();
  if (forming.deadline.has_value()) services_.deadlines->Remove(*forming.deadline);
  Roster roster{.epoch_id = EpochId(kEpochIdBytes, '\0'),
                .epoch = forming.epoch,
                .key = node.key(),
                .terms = forming.terms(),
                .nodes = NodesOf(forming.joiners)};
  services_.random(roster.epoch_id.data(), roster.epoch_id.size());
  InUse used{.epoch_id = roster.epoch_id, .coordinator = roster.nodes.front().node};
  for (const auto& [rank, joiner] : forming.joiners) used.introduced.push_back(joiner);
  const NodeInfo coordinator = used.coordinator;
  in_use_.insert_or_assign(node.key(), std::move(used));
  services_.say(coordinator, std::move(roster));
}

void Seed::Rearm(FormingMap::iterator found) {
  Forming& forming = found->second;
  if (forming.deadline.has_value()) services_.deadlines->Remove(*forming.deadline);
  forming.deadline =
      services_.deadlines->Add(forming.deadline_at, [this, key = found->first] { Expired(key); });
}

void Seed::Expired(const GroupKey& key) {
  const auto found = forming_.find(key);
  Forming& forming = found->second;
  forming.deadline.reset();
  if (forming.complete() && services_.clock->Now() >= opens_) return Introduce(found);
  std::vector<Rank> missing = forming.Missing();
  const absl::Duration waited = services_.clock->Now() - forming.began;
  Fail(found,
       {.cause = Cause::kDeadline,
        .message = absl::StrCat(
            "group ", Quoted(key.second), " (epoch ", forming.epoch, ") did not form in ",
            absl::FormatDuration(absl::Trunc(waited, absl::Milliseconds(1))), ": ",
            forming.joiners.size(), " of ", forming.terms().world_size, " ranks have joined; ",
            missing.empty() ? "there was no seed to introduce them to each other"
                            : absl::StrCat(DescribeRanks(missing), " never joined")),
        .group = key.second,
        .epoch = forming.epoch,
        .missing = std::move(missing)});
}

template <typename Gone>
void Seed::RemoveFrom(FormingMap::iterator found, Gone gone) {
  Forming& forming = found->second;
  const size_t removed =
      std::erase_if(forming.joiners, [&](const auto& seat) { return gone(seat.second); });
  if (removed == 0) return;
  if (forming.joiners.empty()) {
    if (forming.deadline.has_value()) services_.deadlines->Remove(*forming.deadline);
    forming_.erase(found);
    return;
  }
  forming.deadline_at = absl::InfiniteFuture();
  for (const auto& [rank, joiner] : forming.joiners) {
    forming.deadline_at = std::min(forming.deadline_at, joiner.deadline);
  }
  Rearm(found);
}

void Seed::Refuse(const Joiner& joiner, const Failure& failure) const {
  services_.say(joiner.node, Refused{joiner.offer.join, failure});
}

void Seed::Fail(FormingMap::iterator found, const Failure& failure) {
  LogWarning("group.not_formed cause={} message={}", NameOf(failure.cause),
             Quoted(failure.message));
  const auto node = forming_.extract(found);
  if (node.mapped().deadline.has_value()) services_.deadlines->Remove(*node.mapped().deadline);
  for (const auto& [rank, joiner] : node.mapped().joiners) Refuse(joiner, failure);
}

void Seed::Heard(const NodeInfo& from, const Withdraw& withdraw) {
  const auto gone = [&](const Joiner& joiner) { return joiner.Is(from, withdraw.join); };
  const auto forming = forming_.find(withdraw.key);
  if (forming != forming_.end()) RemoveFrom(forming, gone);
  const auto used = in_use_.find(withdraw.key);
  if (used != in_use_.end()) std::erase_if(used->second.challengers, gone);
}

void Seed::Heard(const NodeInfo& from, const Registered& registered) {
  auto [used, added] = in_use_.try_emplace(registered.key);
  // A seed that was restarted may be told of two: both are there, and any of them is in use.
  if (!added && used->second.epoch_id != registered.epoch_id) return;
  used->second.epoch_id = registered.epoch_id;
  used->second.coordinator = from;
  uint64_t& last = epochs_.try_emplace(registered.key, epoch_floor_).first->second;
  last = std::max(last, registered.epoch);
  // While it forms it may yet come to nothing.
  if (!registered.live) return;
  used->second.introduced.clear();
  const std::string& group = registered.key.second;
  std::vector<Joiner> refused = std::exchange(used->second.challengers, {});
  // A seed that was restarted did not know that the name is in use.
  const auto forming = forming_.find(registered.key);
  if (forming != forming_.end()) {
    for (const auto& [rank, joiner] : forming->second.joiners) refused.push_back(joiner);
    RemoveFrom(forming, [](const Joiner&) { return true; });
  }
  for (const Joiner& joiner : refused) {
    Refuse(joiner, {.cause = Cause::kSeatTaken,
                    .message = absl::StrCat("group ", Quoted(group), " (epoch ", registered.epoch,
                                            ") is in use: all its ranks have joined; let them "
                                            "leave it first, or use another name"),
                    .group = group,
                    .epoch = registered.epoch,
                    .culprits = {joiner.offer.rank}});
  }
}

void Seed::Heard(const NodeInfo& from, const Unregistered& unregistered) {
  const auto used = std::find_if(in_use_.begin(), in_use_.end(), [&](const auto& entry) {
    return entry.second.epoch_id == unregistered.epoch_id && entry.second.coordinator.id == from.id;
  });
  if (used != in_use_.end()) Free(used);
}

void Seed::Free(InUseMap::iterator used) {
  const auto node = in_use_.extract(used);
  for (const Joiner& joiner : node.mapped().introduced) {
    services_.say(joiner.node, Over{joiner.offer.join, node.mapped().epoch_id});
  }
  // One of them may complete a group: then the name is in use for the others.
  for (const Joiner& joiner : node.mapped().challengers) Consider(joiner);
}

void Seed::Lost(const NodeInfo& node) {
  const auto gone = [&](const Joiner& joiner) { return joiner.node.id == node.id; };
  for (auto next = forming_.begin(); next != forming_.end();) RemoveFrom(next++, gone);
  std::vector<GroupKey> freed;
  for (auto& [key, used] : in_use_) {
    std::erase_if(used.introduced, gone);
    std::erase_if(used.challengers, gone);
    if (used.coordinator.id == node.id) freed.push_back(key);
  }
  for (const GroupKey& key : freed) Free(in_use_.find(key));
}

}  // namespace tutti
