// Random histories of three daemons: dials cross, connections break and are noticed at any time on
// either side, frames of dials that are over arrive late, daemons are restarted. Whatever happens,
// the promises of daemon/cluster/peers.h hold. A seed that fails is shown and fails again.
#include <catch2/catch.hpp>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/testing/fake_clock.h"
#include "base/testing/manual_task_runner.h"
#include "daemon/peer/links.h"
#include "daemon/peer/testing/fake_streams.h"

namespace tutti {
namespace {

constexpr size_t kPlaces = 3;
constexpr int kSteps = 400;
constexpr uint64_t kSeeds = 3000;

// One incarnation of a daemon, and what it has been told.
class Daemon final : public PeerListener {
 public:
  // Of its dealings with one other incarnation.
  struct Other {
    uint64_t last_heard = 0;
    uint64_t lost = 0;        // how often
    std::set<uint64_t> said;  // and neither heard nor lost
  };

  Daemon(FakeClock* clock, ManualTaskRunner* loop, FakeStreams* network, NodeInfo self)
      : port(network, self.address),
        links({.clock = clock,
               .loop = loop,
               .streams = &port,
               .up = [this](const NodeInfo& node) { on_up(node); },
               .down = [](const NodeInfo&, const LinkEnd&) {}},
              {}, std::move(self)) {
    port.Listen(&links);
    links.Start(this);
  }

  const NodeId& id() const { return links.self().id; }

  void SeedIs(const NodeInfo&, absl::Duration) override {}
  void NoSeed() override {}
  void Heard(const NodeInfo& from, PeerMessage message) override {
    CHECK_FALSE(saying);
    on_heard(from, std::get<Withdraw>(message).join);
  }
  void Lost(const NodeInfo& node, const std::string&) override {
    CHECK_FALSE(saying);
    Other& other = others[node.id];
    ++other.lost;
    other.said.clear();
    on_lost(node);
  }

  FakeStreams::Port port;
  Links links;
  std::map<NodeId, Other> others;
  bool saying = false;
  std::function<void(const NodeInfo&)> on_up;
  std::function<void(const NodeInfo&, uint64_t)> on_heard;
  std::function<void(const NodeInfo&)> on_lost;
};

class History {
 public:
  explicit History(uint64_t seed) : random_(seed), daemons_(kPlaces) {
    network_.on_dial = [this](StreamId stream, const Hello& hello) {
      dials_[stream] = {hello.node.id, LostAt(hello.node.id, hello.expected)};
    };
    for (size_t place = 0; place < kPlaces; ++place) Restart(place);
  }
  ~History() { loop_.RunUntilIdle(); }

  void Run() {
    for (int step = 0; step < kSteps; ++step) Step();
    calm_ = true;
    Settle();
    for (const auto& daemon : daemons_) {
      for (const auto& [id, other] : daemon->others) CHECK(other.said.empty());
    }
    CheckAllCanSpeak();
  }

 private:
  // A stream that is or was a link to at least one of its ends; and of each end how often it had
  // lost the other before.
  struct Link {
    NodeId ends[2];
    uint64_t lost_before[2] = {0, 0};
  };

  size_t Draw(size_t below) { return random_() % below; }
  size_t PlaceOf(const NodeInfo& node) const { return static_cast<size_t>(node.name[0] - '0'); }

  Daemon* Find(const NodeId& id) {
    for (const auto& daemon : daemons_) {
      if (daemon != nullptr && daemon->id() == id) return daemon.get();
    }
    return nullptr;
  }
  // How often `at` has lost `of`.
  uint64_t LostAt(const NodeId& at, const NodeId& of) {
    Daemon* const daemon = Find(at);
    return daemon == nullptr ? 0 : daemon->others[of].lost;
  }

  void Step() {
    const size_t what = Draw(200);
    if (what < 120) return Deliver();
    if (what < 165) return Say(Draw(kPlaces), Draw(kPlaces));
    if (what < 180) return Break();
    if (what < 196) return loop_.Advance(absl::Milliseconds(static_cast<int64_t>(Draw(40))));
    if (what < 199) return loop_.Advance(absl::Seconds(3));
    Restart(Draw(kPlaces));
  }

  void Deliver() {
    const auto arriving = network_.Arriving();
    if (arriving.empty()) return;
    const auto [stream, side] = arriving[Draw(arriving.size())];
    delivering_ = stream;
    network_.Deliver(stream, side);
    delivering_ = 0;
  }

  void Break() {
    const auto open = network_.Open();
    if (!open.empty()) network_.Break(open[Draw(open.size())]);
  }

  void Say(size_t from, size_t to) {
    if (from == to) return;
    Daemon& daemon = *daemons_[from];
    const NodeInfo node = daemons_[to]->links.self();
    daemon.others[node.id].said.insert(++last_number_);
    daemon.saying = true;
    daemon.links.Say(node, Withdraw{.join = last_number_});
    daemon.saying = false;
  }

  void IsUp(const Daemon& at, const NodeInfo& other) {
    const auto& [dialler, lost_before] = dials_.at(delivering_);
    auto [added, is_new] = links_.try_emplace(delivering_);
    Link& link = added->second;
    if (is_new) {
      const NodeId& answerer = dialler == at.id() ? other.id : at.id();
      // The answerer is told of it first.
      CHECK(answerer == at.id());
      link = {{dialler, answerer}, {lost_before, LostAt(answerer, dialler)}};
    }
  }

  void Heard(Daemon* at, const NodeInfo& from, uint64_t number) {
    Daemon::Other& other = at->others[from.id];
    // In order, and none twice.
    CHECK(number > other.last_heard);
    other.last_heard = number;
    Daemon* const sayer = Find(from.id);
    if (sayer == nullptr) return;
    sayer->others[at->id()].said.erase(number);
    CheckFence({at->id(), from.id});
  }

  // Something is heard over a link: of every other between the two, both have been told the loss.
  void CheckFence(const std::set<NodeId>& pair) {
    std::erase_if(links_, [&](const auto& one) {
      const Link& link = one.second;
      if (one.first == delivering_) return false;
      if (std::set<NodeId>{link.ends[0], link.ends[1]} != pair) return false;
      INFO("over stream " << delivering_ << ", and the other is " << one.first);
      CHECK(LostAt(link.ends[0], link.ends[1]) > link.lost_before[0]);
      CHECK(LostAt(link.ends[1], link.ends[0]) > link.lost_before[1]);
      return true;
    });
  }

  void Restart(size_t place) {
    loop_.RunUntilIdle();
    // Timers of the old one are left behind: they are of its loop, which has ended.
    retired_.push_back(std::move(daemons_[place]));
    if (retired_.back() != nullptr) retired_.back()->links.Shutdown();
    std::string id(16, '\0');
    for (char& byte : id) byte = static_cast<char>(random_());
    const std::string name = std::to_string(place);
    if (retired_.back() != nullptr) retired_.back()->port.Die();
    auto daemon = std::make_unique<Daemon>(&clock_, &loop_, &network_,
                                           NodeInfo{.id = id, .name = name, .address = name});
    Daemon* const at = daemon.get();
    daemons_[place] = std::move(daemon);
    at->on_up = [this, at](const NodeInfo& node) { IsUp(*at, node); };
    at->on_heard = [this, at](const NodeInfo& from, uint64_t number) { Heard(at, from, number); };
    at->on_lost = [this, place](const NodeInfo& node) {
      // The logic often has something to say at once.
      if (!calm_ && Draw(3) == 0) Say(place, PlaceOf(node));
    };
  }

  void Settle() {
    for (int i = 0; i < 10; ++i) {
      while (!network_.Arriving().empty()) Deliver();
      loop_.Advance(absl::Seconds(1));
    }
  }

  void CheckAllCanSpeak() {
    for (size_t from = 0; from < kPlaces; ++from) {
      for (size_t to = 0; to < kPlaces; ++to) {
        if (from == to) continue;
        Say(from, to);
        Settle();
        CHECK(daemons_[to]->others[daemons_[from]->id()].last_heard == last_number_);
      }
    }
  }

  std::mt19937_64 random_;
  FakeClock clock_;
  ManualTaskRunner loop_{&clock_};
  FakeStreams network_;
  std::vector<std::unique_ptr<Daemon>> daemons_;
  std::vector<std::unique_ptr<Daemon>> retired_;
  // Of each stream, who dialled it, and how often that one had lost the other before.
  std::map<StreamId, std::pair<NodeId, uint64_t>> dials_;
  std::map<StreamId, Link> links_;
  uint64_t last_number_ = 0;
  StreamId delivering_ = 0;
  bool calm_ = false;
};

TEST_CASE("whatever breaks, links keep their promises") {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    INFO("seed " << seed);
    History(seed).Run();
  }
}

}  // namespace
}  // namespace tutti
