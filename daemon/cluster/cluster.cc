#include "daemon/cluster/cluster.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/failpoint.h"
#include "base/log.h"

namespace tutti {
namespace {

std::optional<size_t> PlaceOf(const Roster& roster, const NodeInfo& node) {
  const auto found = std::find_if(roster.nodes.begin(), roster.nodes.end(),
                                  [&](const RosterNode& each) { return each.node.id == node.id; });
  if (found == roster.nodes.end()) return std::nullopt;
  return static_cast<size_t>(found - roster.nodes.begin());
}

// What a node says of another by itself: the coordinator may know better.
constexpr const char* kCutOff = "can't be reached";

// So many epochs a join is offered for: where nodes can't reach each other, more will not do.
constexpr int kEpochsPerJoinMax = 8;

// Others may take the place of who has gone.
bool MayFormYet(const Failure& failure) {
  return failure.cause == Cause::kWithdrawn || failure.cause == Cause::kNodeLost;
}

}  // namespace

Cluster::Cluster(Services services)
    : services_(services),
      own_seed_(std::make_unique<Seed>(Seed::Services{.clock = services.clock,
                                                      .deadlines = services.deadlines,
                                                      .random = services.random,
                                                      .say = Sayer()})) {}

Cluster::~Cluster() = default;

std::function<void(const NodeInfo&, PeerMessage)> Cluster::Sayer() {
  return [this](const NodeInfo& to, PeerMessage message) {
    services_.network->Say(to, std::move(message));
  };
}

bool Cluster::IsSelf(const NodeInfo& node) const { return node.id == services_.network->self().id; }

bool Cluster::IsSeed(const NodeInfo& node) const {
  return seed_.has_value() && node.id == seed_->id;
}

// --- Joins ---

void Cluster::Join(Offer offer) {
  const uint64_t join = offer.join;
  const MonotonicTime deadline = services_.clock->Now() + offer.time_left;
  const auto [waiting, added] = joins_.emplace(
      join, Waiting{.offer = std::move(offer), .deadline = deadline, .epoch_id = ""});
  TUTTI_CHECK(added);
  OfferNow(waiting->second);
}

void Cluster::OfferNow(const Waiting& waiting) {
  if (!seed_.has_value()) return;
  Offer offer = waiting.offer;
  offer.time_left = std::max(waiting.deadline - services_.clock->Now(), absl::ZeroDuration());
  services_.network->Say(*seed_, std::move(offer));
}

void Cluster::GiveUp(uint64_t join, const Failure& why) {
  const auto found = joins_.find(join);
  if (found == joins_.end()) return;
  const Waiting waiting = std::move(joins_.extract(found).mapped());
  if (waiting.epoch_id.empty()) {
    SayToSeed(Withdraw{join, waiting.offer.key});
  } else {
    Fail(waiting.epoch_id, {.failure = why});
  }
}

void Cluster::SayToSeed(PeerMessage message) {
  if (seed_.has_value()) services_.network->Say(*seed_, std::move(message));
}

void Cluster::On(const NodeInfo& from, const Refused& refused) {
  const auto found = joins_.find(refused.join);
  // One that an epoch has is the coordinator's matter.
  if (!IsSeed(from) || found == joins_.end() || !found->second.epoch_id.empty()) return;
  Failure failure = refused.failure;
  if (!found->second.why_not.empty()) {
    absl::StrAppend(&failure.message, "; before that: ", found->second.why_not);
  }
  joins_.erase(found);
  services_.host->JoinRefused(refused.join, failure);
}

void Cluster::On(const NodeInfo& from, const Over& over) {
  if (!IsSeed(from)) return;
  const auto found = joins_.find(over.join);
  // One that an epoch has is its coordinator's matter.
  if (found == joins_.end() || !found->second.epoch_id.empty()) return;
  if (found->second.offer.over == over.epoch_id) return;  // known, and offered again
  found->second.offer.over = over.epoch_id;
  OfferNow(found->second);
}

// --- Forming ---

void Cluster::On(const NodeInfo& from, const Roster& roster) {
  const auto node = PlaceOf(roster, services_.network->self());
  if (!node.has_value() || epochs_.contains(roster.epoch_id)) return;
  const NodeInfo& coordinator = roster.nodes.front().node;
  const bool mine = IsSelf(coordinator);
  if (mine ? !IsSeed(from) : from.id != coordinator.id) return;
  if (mine) Coordinate(roster);
  for (const Seat& seat : roster.nodes[*node].seats) {
    const auto waiting = joins_.find(seat.join);
    // Of an epoch that the seed holds for over, the join may be in another one soon.
    if (waiting != joins_.end() && waiting->second.epoch_id.empty() &&
        waiting->second.offer.key == roster.key && waiting->second.offer.over != roster.epoch_id) {
      continue;
    }
    // The planted defect: it does not matter whether they still wait.
    if (Mutated("cluster.enter_anyway")) continue;
    const std::string& group = roster.key.second;
    const Failure failure{
        .cause = Cause::kWithdrawn,
        .message = absl::StrCat("group ", Quoted(group), " (epoch ", roster.epoch,
                                ") did not form: rank ", seat.rank, " waits no more"),
        .group = group,
        .epoch = roster.epoch,
        .culprits = {seat.rank}};
    return services_.network->Say(coordinator, Report{roster.epoch_id, {.failure = failure}, {}});
  }
  for (const Seat& seat : roster.nodes[*node].seats) {
    const auto waiting = joins_.find(seat.join);
    if (waiting == joins_.end()) continue;
    waiting->second.epoch_id = roster.epoch_id;
    waiting->second.offer.last_epoch = roster.epoch;
  }
  epochs_.emplace(roster.epoch_id, Epoch{.roster = roster, .node = *node, .live = false});
  services_.host->EpochEntered(roster, *node);
}

void Cluster::Coordinate(const Roster& roster) {
  coordinators_.emplace(
      roster.epoch_id,
      std::make_unique<Coordinator>(
          roster, Coordinator::Services{.clock = services_.clock,
                                        .deadlines = services_.deadlines,
                                        .say = Sayer(),
                                        .completed = [this, epoch_id = roster.epoch_id] {
                                          return services_.host->CompletedOf(epoch_id);
                                        }}));
  Register(*coordinators_.at(roster.epoch_id));
}

void Cluster::Register(const Coordinator& coordinator) {
  const Roster& roster = coordinator.roster();
  SayToSeed(Registered{roster.epoch_id, roster.epoch, roster.key, coordinator.live()});
}

template <typename Message>
void Cluster::Coordinated(const NodeInfo& from, const Message& message) {
  const auto found = coordinators_.find(message.epoch_id);
  if (found == coordinators_.end()) return;
  const auto node = PlaceOf(found->second->roster(), from);
  if (!node.has_value()) return;
  const bool was_live = found->second->live();
  found->second->Heard(*node, message);
  if (found->second->live() != was_live) Register(*found->second);
  Tidy(message.epoch_id);
}

void Cluster::Tidy(const EpochId& epoch_id) {
  const auto found = coordinators_.find(epoch_id);
  if (found == coordinators_.end() || !found->second->over()) return;
  coordinators_.erase(found);
  SayToSeed(Unregistered{epoch_id});
}

void Cluster::On(const NodeInfo& from, const Challenge& challenge) {
  if (!IsSeed(from)) return;
  const auto found = coordinators_.find(challenge.epoch_id);
  if (found == coordinators_.end()) return SayToSeed(Unregistered{challenge.epoch_id});
  Register(*found->second);
}

Cluster::Epoch* Cluster::Find(const EpochId& epoch_id) {
  const auto found = epochs_.find(epoch_id);
  return found == epochs_.end() ? nullptr : &found->second;
}

Cluster::Epoch* Cluster::Find(const EpochId& epoch_id, const NodeInfo& from) {
  Epoch* const epoch = Find(epoch_id);
  return epoch != nullptr && epoch->coordinator().id == from.id ? epoch : nullptr;
}

void Cluster::SayToCoordinator(const Epoch& epoch, PeerMessage message) {
  services_.network->Say(epoch.coordinator(), std::move(message));
}

void Cluster::Enter(const EpochId& epoch_id, const std::string& address) {
  if (const Epoch* epoch = Find(epoch_id)) SayToCoordinator(*epoch, Entered{epoch_id, address});
}

void Cluster::Connect(const EpochId& epoch_id) {
  if (const Epoch* epoch = Find(epoch_id)) SayToCoordinator(*epoch, Connected{epoch_id});
}

void Cluster::On(const NodeInfo& from, const Meet& meet) {
  const Epoch* const epoch = Find(meet.epoch_id, from);
  if (epoch == nullptr || epoch->live) return;
  if (meet.addresses.size() == epoch->roster.nodes.size()) {
    services_.host->NodesMet(meet.epoch_id, meet.addresses);
  }
}

void Cluster::On(const NodeInfo& from, const Live& live) {
  Epoch* const epoch = Find(live.epoch_id, from);
  if (epoch == nullptr || epoch->live) return;
  epoch->live = true;
  for (const Seat& seat : epoch->roster.nodes[epoch->node].seats) joins_.erase(seat.join);
  services_.host->EpochLive(live.epoch_id);
}

// --- Ending ---

void Cluster::Fail(const EpochId& epoch_id, Ending ending, std::optional<Place> waiting_at) {
  if (const Epoch* epoch = Find(epoch_id)) {
    SayToCoordinator(*epoch, Report{epoch_id, std::move(ending), waiting_at});
  }
}

void Cluster::Leave(const EpochId& epoch_id) {
  const Epoch* const epoch = Find(epoch_id);
  if (epoch == nullptr) return;
  SayToCoordinator(*epoch, Gone{epoch_id});
}

void Cluster::On(const NodeInfo& from, const Ended& ended) {
  if (Find(ended.epoch_id, from) != nullptr) End(ended.epoch_id, ended.ending);
  // The coordinator may have decided when a time had passed.
  if (IsSelf(from)) Tidy(ended.epoch_id);
}

void Cluster::End(const EpochId& epoch_id, const Ending& ending) {
  const Epoch* const epoch = Find(epoch_id);
  if (epoch->live && ending.closed) return services_.host->EpochEnded(epoch_id, ending);
  const Epoch ended = std::move(epochs_.extract(epoch_id).mapped());
  services_.host->EpochEnded(epoch_id, ending);
  if (!ended.live) Release(ended, ending.failure);
}

void Cluster::Release(const Epoch& epoch, const Failure& failure) {
  for (const Seat& seat : epoch.roster.nodes[epoch.node].seats) {
    const auto found = joins_.find(seat.join);
    if (found == joins_.end()) continue;  // it has withdrawn
    if (MayFormYet(failure) && ++found->second.epochs < kEpochsPerJoinMax) {
      found->second.epoch_id.clear();
      found->second.offer.over = epoch.roster.epoch_id;
      found->second.why_not = failure.message;
      OfferNow(found->second);
    } else {
      joins_.erase(found);
      services_.host->JoinRefused(seat.join, failure);
    }
  }
}

void Cluster::On(const NodeInfo& from, const Inquiry& inquiry) {
  const Epoch* const epoch = Find(inquiry.epoch_id, from);
  if (epoch == nullptr) return;
  Answer answer{.epoch_id = inquiry.epoch_id, .place = inquiry.place, .missing = {}, .doing = {}};
  services_.host->DescribeMissing(inquiry.epoch_id, &answer);
  SayToCoordinator(*epoch, std::move(answer));
}

// --- Operations ---

void Cluster::Settle(const EpochId& epoch_id, uint64_t sequence, bool value) {
  const auto found = coordinators_.find(epoch_id);
  if (found != coordinators_.end()) found->second->Settle(sequence, value);
}

void Cluster::On(const NodeInfo& from, const Settled& settled) {
  if (Find(settled.epoch_id, from) != nullptr) services_.host->AgreeSettled(settled);
}

void Cluster::Say(const EpochId& epoch_id, size_t node, PeerMessage message) {
  const Epoch* const epoch = Find(epoch_id);
  if (epoch == nullptr) return;
  services_.network->Say(epoch->roster.nodes[node].node, std::move(message));
}

namespace {

// A node speaks for its own ranks only.
bool Holds(const Roster& roster, const NodeInfo& node, Rank rank) {
  const auto place = PlaceOf(roster, node);
  if (!place.has_value()) return false;
  const std::vector<Seat>& seats = roster.nodes[*place].seats;
  return std::any_of(seats.begin(), seats.end(), [&](const Seat& s) { return s.rank == rank; });
}

}  // namespace

void Cluster::On(const NodeInfo& from, const SendReady& send) {
  const Epoch* const epoch = Find(send.epoch_id);
  if (epoch == nullptr || !Holds(epoch->roster, from, send.place.source)) return;
  services_.host->SendOffered(send);
}

void Cluster::On(const NodeInfo& from, const SendTaken& taken) {
  const Epoch* const epoch = Find(taken.epoch_id);
  if (epoch == nullptr || !Holds(epoch->roster, from, taken.place.destination)) return;
  services_.host->SendAnswered(taken);
}

// --- PeerListener ---

void Cluster::NoSeed() {
  if (seed_.has_value() && IsSelf(*seed_)) own_seed_->Close();
  seed_.reset();
}

void Cluster::SeedIs(const NodeInfo& seed, absl::Duration opens_after) {
  NoSeed();
  // Others may have learned of it earlier, and told it something already.
  if (IsSelf(seed)) own_seed_->OpenAt(services_.clock->Now() + opens_after);
  seed_ = seed;
  // The planted defect: what the seed has forgotten stays forgotten.
  if (Mutated("cluster.tell_nothing")) return;
  for (const auto& [epoch_id, coordinator] : coordinators_) Register(*coordinator);
  for (const auto& [join, waiting] : joins_) {
    if (waiting.epoch_id.empty()) OfferNow(waiting);
  }
}

void Cluster::Heard(const NodeInfo& from, PeerMessage message) {
  std::visit([&](auto& each) { On(from, each); }, message);
}

void Cluster::Lost(const NodeInfo& node, const std::string& why) {
  if (IsSeed(node)) seed_.reset();
  own_seed_->Lost(node);
  std::vector<EpochId> coordinated;
  for (const auto& [epoch_id, coordinator] : coordinators_) coordinated.push_back(epoch_id);
  for (const EpochId& epoch_id : coordinated) {
    Coordinator& coordinator = *coordinators_.at(epoch_id);
    const auto place = PlaceOf(coordinator.roster(), node);
    if (place.has_value()) coordinator.Lost(*place, why);
    Tidy(epoch_id);
  }
  std::vector<EpochId> orphaned;
  for (const auto& [epoch_id, epoch] : epochs_) {
    const auto place = PlaceOf(epoch.roster, node);
    if (!place.has_value() || IsSelf(epoch.coordinator())) continue;
    if (*place == 0) {
      // The planted defect: who is cut off waits for ever.
      if (!Mutated("cluster.wait_for_lost")) orphaned.push_back(epoch_id);
    } else {
      // What they had said to each other of transfers is lost.
      Fail(epoch_id, {.failure = NodeLost(epoch.roster, *place, kCutOff, why)});
    }
  }
  for (const EpochId& epoch_id : orphaned) {
    End(epoch_id, {.failure = NodeLost(epochs_.at(epoch_id).roster, 0, kCutOff, why)});
  }
}

}  // namespace tutti
