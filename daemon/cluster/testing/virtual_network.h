// A network of daemons in one thread and in virtual time: messages take their time, links break and
// are noticed to be broken at different times on their two sides, nodes die and come again.
//
// It keeps the promises of peers.h and no others. Everything random comes from one seed.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/testing/fake_clock.h"
#include "base/testing/manual_task_runner.h"
#include "daemon/cluster/peers.h"

namespace tutti {

class VirtualNetwork {
 public:
  struct Options {
    uint64_t seed = 1;
    absl::Duration delay_min = absl::Microseconds(50);
    absl::Duration delay_max = absl::Microseconds(500);
    // How long it takes to notice that a link has broken, at most; and that none can be had.
    absl::Duration notice_max = absl::Seconds(5);
    // How often it is tried to reach the seed.
    absl::Duration retry = absl::Milliseconds(100);
  };

  // Both must outlive this.
  VirtualNetwork(FakeClock* clock, ManualTaskRunner* loop, Options options);
  ~VirtualNetwork();

  // A machine: what runs there is started, dies, and is started again. The first is the seed's.
  size_t AddPlace(const std::string& name);

  // What starts there says what it sends through this, until it dies.
  PeerNetwork* Start(size_t place);
  // Everything that is said to it from now on reaches `listener`; and it looks for the seed.
  void Listen(size_t place, PeerListener* listener, absl::Duration opens_after);
  // Its links break. Whoever has the listener destroys it.
  void Die(size_t place);

  // The link breaks, what is on it is lost; a new one can be had at once.
  void Break(size_t a, size_t b);
  // The same, but none can be had until Heal.
  void Cut(size_t a, size_t b);
  void Heal(size_t a, size_t b);

  const NodeInfo& InfoOf(size_t place) const;
  bool alive(size_t place) const;
  size_t places() const { return places_.size(); }

  // Messages that have been sent by each place, but those to itself.
  uint64_t sent_by(size_t place) const { return sent_[place]; }
  std::mt19937_64& random() { return random_; }

 private:
  class Port;
  enum class SideState : uint8_t { kNone, kDialling, kUp };
  struct Side {
    SideState state = SideState::kNone;
    NodeInfo peer;            // that is dialled, or linked; without an id if any will do
    uint64_t generation = 0;  // in which it is up
    std::vector<std::pair<NodeInfo, PeerMessage>> waiting;
    MonotonicTime last_arrival = absl::InfinitePast();  // of what it has sent
  };
  struct Link {
    uint64_t generation = 0;  // what is on its way belongs to one
    bool cut = false;
    Side sides[2];
  };
  struct Place {
    NodeInfo info;
    std::unique_ptr<Port> port;
    PeerListener* listener = nullptr;
    absl::Duration opens_after;
    bool has_seed = false;
  };

  void Say(size_t from, const NodeInfo& to, PeerMessage message);
  void Dial(size_t from, size_t to, const NodeInfo& peer);
  void DialArrives(size_t from, size_t to, uint64_t generation);
  void WelcomeArrives(size_t from, size_t to, uint64_t generation);
  void DialFails(size_t from, size_t to, uint64_t generation, const char* why);
  // The link may be to another daemon than `node` by now: then that one is lost.
  void Transmit(size_t from, const NodeInfo& node, PeerMessage message);
  void Flush(size_t from, size_t to);
  void LoseSide(size_t at, size_t of, const std::string& why);
  void BreakLink(size_t a, size_t b, absl::Duration noticed_within);
  void LookForSeed(size_t place);
  void FoundSeed(size_t place);

  Link& LinkOf(size_t a, size_t b) { return links_[std::minmax(a, b)]; }
  Side& SideOf(size_t at, size_t of) { return LinkOf(at, of).sides[at < of ? 0 : 1]; }
  size_t PlaceOf(const NodeInfo& node) const { return by_address_.at(node.address); }
  absl::Duration Within(absl::Duration from, absl::Duration to);
  void After(absl::Duration delay, std::function<void()> task);

  FakeClock* const clock_;
  ManualTaskRunner* const loop_;
  const Options options_;
  std::mt19937_64 random_;
  std::vector<Place> places_;
  std::vector<uint64_t> sent_;
  std::map<std::string, size_t> by_address_;
  std::map<std::pair<size_t, size_t>, Link> links_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace tutti
