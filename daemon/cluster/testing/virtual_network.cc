#include "daemon/cluster/testing/virtual_network.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace tutti {

// What one incarnation of a node speaks through.
class VirtualNetwork::Port final : public PeerNetwork {
 public:
  Port(VirtualNetwork* network, size_t place) : network_(network), place_(place) {}
  const NodeInfo& self() const override { return network_->places_[place_].info; }
  void Say(const NodeInfo& to, PeerMessage message) override {
    network_->Say(place_, to, std::move(message));
  }

 private:
  VirtualNetwork* const network_;
  const size_t place_;
};

VirtualNetwork::VirtualNetwork(FakeClock* clock, ManualTaskRunner* loop, Options options)
    : clock_(clock), loop_(loop), options_(options), random_(options.seed) {}

VirtualNetwork::~VirtualNetwork() { *alive_ = false; }

size_t VirtualNetwork::AddPlace(const std::string& name) {
  const size_t place = places_.size();
  places_.emplace_back();
  places_.back().info = {.id = "", .name = name, .address = absl::StrCat(name, ":7000")};
  by_address_[places_.back().info.address] = place;
  sent_.push_back(0);
  return place;
}

PeerNetwork* VirtualNetwork::Start(size_t place) {
  Place& here = places_[place];
  TUTTI_CHECK(here.port == nullptr);
  const uint64_t id[2] = {random_(), random_()};
  here.info.id.resize(sizeof(id));
  std::memcpy(here.info.id.data(), id, sizeof(id));
  here.port = std::make_unique<Port>(this, place);
  return here.port.get();
}

void VirtualNetwork::Listen(size_t place, PeerListener* listener, absl::Duration opens_after) {
  places_[place].listener = listener;
  places_[place].opens_after = opens_after;
  LookForSeed(place);
}

void VirtualNetwork::Die(size_t place) {
  Place& here = places_[place];
  here.port.reset();
  here.listener = nullptr;
  here.has_seed = false;
  for (auto& [pair, link] : links_) {
    if (pair.first != place && pair.second != place) continue;
    const size_t other = pair.first == place ? pair.second : pair.first;
    SideOf(place, other) = {};
    // The kernel closes what a dead process had open.
    BreakLink(pair.first, pair.second, absl::Milliseconds(2));
  }
}

void VirtualNetwork::Break(size_t a, size_t b) { BreakLink(a, b, options_.notice_max); }

void VirtualNetwork::Cut(size_t a, size_t b) {
  LinkOf(a, b).cut = true;
  BreakLink(a, b, options_.notice_max);
}

void VirtualNetwork::Heal(size_t a, size_t b) { LinkOf(a, b).cut = false; }

const NodeInfo& VirtualNetwork::InfoOf(size_t place) const { return places_[place].info; }

bool VirtualNetwork::alive(size_t place) const { return places_[place].port != nullptr; }

absl::Duration VirtualNetwork::Within(absl::Duration from, absl::Duration to) {
  const int64_t span = absl::ToInt64Nanoseconds(to - from);
  return from + absl::Nanoseconds(static_cast<int64_t>(random_() % (span + 1)));
}

void VirtualNetwork::After(absl::Duration delay, std::function<void()> task) {
  loop_->PostAt(clock_->Now() + delay,
                [alive = alive_, task = std::move(task)] { return *alive ? task() : void(); });
}

void VirtualNetwork::BreakLink(size_t a, size_t b, absl::Duration noticed_within) {
  const uint64_t generation = ++LinkOf(a, b).generation;
  for (const auto& [at, of] : {std::pair(a, b), std::pair(b, a)}) {
    if (SideOf(at, of).state == SideState::kNone) continue;
    After(Within(absl::ZeroDuration(), noticed_within), [this, at = at, of = of, generation] {
      // Unless a new link has made it notice already.
      if (LinkOf(at, of).generation == generation) LoseSide(at, of, "the connection broke");
    });
  }
}

void VirtualNetwork::LoseSide(size_t at, size_t of, const std::string& why) {
  Side& side = SideOf(at, of);
  if (side.state == SideState::kNone || !alive(at)) return;
  // The node that it knew, not the one that may be there now.
  const Side before = std::exchange(side, {});
  if (of == 0) {
    places_[at].has_seed = false;
    After(options_.retry, [this, at] { LookForSeed(at); });
  }
  if (places_[at].listener == nullptr) return;
  places_[at].listener->Lost(before.peer, why);
  std::set<NodeId> told{before.peer.id};
  for (const auto& [node, message] : before.waiting) {
    if (told.insert(node.id).second) places_[at].listener->Lost(node, why);
  }
}

void VirtualNetwork::Say(size_t from, const NodeInfo& to, PeerMessage message) {
  const size_t place = PlaceOf(to);
  if (place == from) {
    After(absl::ZeroDuration(),
          [this, from, port = places_[from].port.get(), info = places_[from].info,
           message = std::move(message)]() mutable {
            if (places_[from].port.get() != port || places_[from].listener == nullptr) return;
            places_[from].listener->Heard(info, std::move(message));
          });
    return;
  }
  ++sent_[from];
  Side& side = SideOf(from, place);
  if (side.state == SideState::kUp) return Transmit(from, to, std::move(message));
  side.waiting.emplace_back(to, std::move(message));
  if (side.state == SideState::kNone) Dial(from, place, to);
}

void VirtualNetwork::Dial(size_t from, size_t to, const NodeInfo& peer) {
  Side& side = SideOf(from, to);
  side.state = SideState::kDialling;
  side.peer = peer;
  const uint64_t generation = LinkOf(from, to).generation;
  After(Within(options_.delay_min, options_.delay_max),
        [this, from, to, generation] { DialArrives(from, to, generation); });
}

void VirtualNetwork::DialFails(size_t from, size_t to, uint64_t generation, const char* why) {
  After(Within(options_.delay_min, options_.notice_max), [this, from, to, generation, why] {
    const bool same = LinkOf(from, to).generation == generation;
    if (same && SideOf(from, to).state == SideState::kDialling) LoseSide(from, to, why);
  });
}

void VirtualNetwork::DialArrives(size_t from, size_t to, uint64_t generation) {
  Link& link = LinkOf(from, to);
  if (!alive(from) || SideOf(from, to).state != SideState::kDialling) return;
  if (link.generation != generation) return;  // it broke: that is being noticed
  if (link.cut) return DialFails(from, to, generation, "no connection");
  if (!alive(to)) return DialFails(from, to, generation, "nobody listens there");
  const NodeId& expected = SideOf(from, to).peer.id;
  if (!expected.empty() && expected != places_[to].info.id) {
    return DialFails(from, to, generation, "another daemon is there now");
  }
  Side& other = SideOf(to, from);
  // Of two that cross, the one of the smaller id counts.
  if (other.state == SideState::kDialling && places_[to].info.id < places_[from].info.id) {
    return After(options_.delay_max, [this, from, to, generation] {
      // Unless it has come to nothing.
      DialArrives(from, to, generation);
    });
  }
  // Who is dialled by a node to which it has a link learns that the link is gone.
  if (other.state == SideState::kUp) LoseSide(to, from, "it has dialled again");
  Side& answerer = SideOf(to, from);
  const uint64_t next = ++link.generation;
  answerer.state = SideState::kUp;
  answerer.generation = next;
  answerer.peer = places_[from].info;
  SideOf(from, to).peer = places_[to].info;
  const absl::Duration delay = Within(options_.delay_min, options_.delay_max);
  answerer.last_arrival = clock_->Now() + delay;
  After(delay, [this, from, to, next] { WelcomeArrives(from, to, next); });
  Flush(to, from);
  if (from == 0) FoundSeed(to);
}

void VirtualNetwork::WelcomeArrives(size_t from, size_t to, uint64_t generation) {
  Side& side = SideOf(from, to);
  if (LinkOf(from, to).generation != generation || side.state != SideState::kDialling) return;
  side.state = SideState::kUp;
  side.generation = generation;
  Flush(from, to);
  if (to == 0) FoundSeed(from);
}

void VirtualNetwork::Flush(size_t from, size_t to) {
  Side& side = SideOf(from, to);
  for (auto& [node, message] : std::exchange(side.waiting, {})) {
    Transmit(from, node, std::move(message));
  }
}

void VirtualNetwork::Transmit(size_t from, const NodeInfo& node, PeerMessage message) {
  const size_t to = PlaceOf(node);
  Side& side = SideOf(from, to);
  if (side.peer.id != node.id) {
    return After(absl::ZeroDuration(), [this, from, node, port = places_[from].port.get()] {
      if (places_[from].port.get() != port || places_[from].listener == nullptr) return;
      places_[from].listener->Lost(node, "another daemon is there now");
    });
  }
  const MonotonicTime arrival =
      std::max(side.last_arrival, clock_->Now() + Within(options_.delay_min, options_.delay_max));
  side.last_arrival = arrival;
  const uint64_t generation = side.generation;
  After(arrival - clock_->Now(), [this, from, to, generation, info = places_[from].info,
                                  message = std::move(message)]() mutable {
    if (LinkOf(from, to).generation != generation || !alive(to)) return;
    TUTTI_CHECK(SideOf(to, from).state == SideState::kUp);
    if (places_[to].listener != nullptr) {
      places_[to].listener->Heard(info, std::move(message));
    }
  });
}

void VirtualNetwork::LookForSeed(size_t place) {
  Place& here = places_[place];
  if (!alive(place) || here.has_seed || here.listener == nullptr) return;
  if (place == 0) return FoundSeed(0);
  const Side& side = SideOf(place, 0);
  if (side.state == SideState::kUp) return FoundSeed(place);
  if (side.state == SideState::kNone) Dial(place, 0, {});
}

void VirtualNetwork::FoundSeed(size_t place) {
  Place& here = places_[place];
  if (here.has_seed || here.listener == nullptr) return;
  here.has_seed = true;
  here.listener->SeedIs(places_[0].info, here.opens_after);
}

}  // namespace tutti
