#include "daemon/peer/links.h"

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "base/testing/fake_clock.h"
#include "base/testing/manual_task_runner.h"
#include "daemon/peer/testing/fake_streams.h"

namespace tutti {
namespace {

using Strings = std::vector<std::string>;

PeerMessage Message(uint64_t number) { return Withdraw{.join = number}; }

// A daemon: what it hears, as "heard a 1", "lost a", "up a", "down a".
class Daemon final : public PeerListener {
 public:
  Daemon(FakeClock* clock, ManualTaskRunner* loop, FakeStreams* network, char name)
      : port(network, std::string(1, name)),
        links({.clock = clock,
               .loop = loop,
               .streams = &port,
               .up = [this](const NodeInfo& node) { log.push_back("up " + node.name); },
               .down =
                   [this](const NodeInfo& node, const LinkEnd& why) {
                     log.push_back("down " + node.name);
                     downs.push_back(why.reason);
                   }},
              {.dial_timeout = absl::Seconds(5), .waiting_bytes_max = 2000},
              {.id = std::string(16, name),
               .name = std::string(1, name),
               .address = std::string(1, name)}) {
    port.Listen(&links);
    links.Start(this);
  }

  const NodeInfo& self() const { return links.self(); }
  void Say(const Daemon& to, uint64_t number) { links.Say(to.self(), Message(number)); }

  void SeedIs(const NodeInfo&, absl::Duration) override {}
  void NoSeed() override {}
  void Heard(const NodeInfo& from, PeerMessage message) override {
    log.push_back("heard " + from.name + " " + std::to_string(std::get<Withdraw>(message).join));
  }
  void Lost(const NodeInfo& node, const std::string& why) override {
    log.push_back("lost " + node.name);
    whys.push_back(why);
    if (on_lost) on_lost(node);
  }
  Strings Log() { return std::exchange(log, {}); }

  FakeStreams::Port port;
  Links links;
  Strings log;
  Strings whys;
  std::vector<LinkEndReason> downs;
  std::function<void(const NodeInfo&)> on_lost;
};

struct World {
  // Everything that is on its way arrives.
  void Settle() {
    while (true) {
      loop.RunUntilIdle();
      const auto arriving = network.Arriving();
      if (arriving.empty()) return;
      network.Deliver(arriving.front().first, arriving.front().second);
    }
  }
  // Those of `a` and `b`, which is the greater, have a link that `a` has dialled.
  void Link() {
    a.Say(b, 1);
    Settle();
    CHECK(a.Log() == Strings{"up b"});
    CHECK(b.Log() == Strings{"up a", "heard a 1"});
  }

  FakeClock clock;
  ManualTaskRunner loop{&clock};
  FakeStreams network;
  Daemon a{&clock, &loop, &network, 'a'};
  Daemon b{&clock, &loop, &network, 'b'};
};

TEST_CASE("the first message dials; what is said meanwhile waits, in order; both sides may speak") {
  World world;
  world.a.Say(world.b, 1);
  world.a.Say(world.b, 2);
  CHECK(world.a.log.empty());
  world.Settle();
  CHECK(world.network.Open().size() == 1);
  CHECK(world.b.Log() == Strings{"up a", "heard a 1", "heard a 2"});
  world.b.Say(world.a, 3);
  world.a.Say(world.b, 4);
  world.Settle();
  CHECK(world.a.Log() == Strings{"up b", "heard b 3"});
  CHECK(world.b.Log() == Strings{"heard a 4"});
  CHECK(world.network.Open().size() == 1);
}

TEST_CASE("what a node says to itself it hears, later and in order") {
  World world;
  world.a.Say(world.a, 1);
  world.a.Say(world.a, 2);
  CHECK(world.a.log.empty());
  world.Settle();
  CHECK(world.a.Log() == Strings{"heard a 1", "heard a 2"});
}

TEST_CASE("nobody there: what waits is lost, once") {
  World world;
  world.network.unreachable = true;
  world.a.Say(world.b, 1);
  world.a.Say(world.b, 2);
  CHECK(world.a.log.empty());
  world.Settle();
  CHECK(world.a.Log() == Strings{"lost b", "down b"});
  world.network.unreachable = false;
  world.a.Say(world.b, 3);
  world.Settle();
  CHECK(world.b.Log() == Strings{"up a", "heard a 3"});
}

TEST_CASE("an address that is not known is nobody's") {
  World world;
  NodeInfo somebody{.id = std::string(16, 'x'), .name = "x", .address = ""};
  world.a.links.Say(somebody, Message(1));
  CHECK(world.a.log.empty());
  world.loop.Advance(absl::ZeroDuration());
  CHECK(world.a.Log() == Strings{"lost x", "down x"});
}

TEST_CASE("no answer in time: lost; a late Welcome comes to nothing") {
  World world;
  world.a.Say(world.b, 1);
  world.network.Deliver(1, FakeStreams::kAnswerer);
  world.loop.Advance(absl::Seconds(6));
  CHECK(world.a.Log() == Strings{"lost b", "down b"});
  CHECK(world.a.whys.back() == "no answer within 5s");
  world.Settle();
  CHECK(world.a.Log().empty());
  CHECK(world.b.Log() == Strings{"up a", "lost a", "down a"});
}

TEST_CASE("another daemon at that address: the one that was meant is lost") {
  World world;
  NodeInfo before = world.b.self();
  before.id = std::string(16, 'z');
  world.a.links.Say(before, Message(1));
  world.Settle();
  CHECK(world.a.Log() == Strings{"lost b", "down b"});
  CHECK(world.a.whys.back() == "another daemon is there now: b (b)");
  CHECK(world.b.log.empty());
}

TEST_CASE("another version of the protocol is refused, and both are named") {
  World world;
  Hello hello{.protocol_version = 7, .node = world.a.self(), .expected = world.b.self().id};
  const StreamId stream = world.a.port.Dial("b", hello) / 2;
  world.network.Deliver(stream, FakeStreams::kAnswerer);
  const auto& answer = world.network.stream(stream).arriving[FakeStreams::kDialler];
  const LinkEnd end = std::get<LinkEnd>(std::get<LinkFrame>(answer.front()));
  CHECK(end.reason == LinkEndReason::kWrongVersion);
  CHECK(end.text == "b (b) speaks version 1 of the protocol between daemons, a (a) speaks 7");
}

TEST_CASE("dials that cross become one link, the smaller id's, and lose nothing") {
  World world;
  world.a.Say(world.b, 1);
  world.b.Say(world.a, 2);
  SECTION("the winner's arrives first") { world.network.Deliver(1, FakeStreams::kAnswerer); }
  SECTION("the loser's arrives first") { world.network.Deliver(2, FakeStreams::kAnswerer); }
  SECTION("the loser's arrives when the link is there") {
    world.network.Deliver(1, FakeStreams::kAnswerer);
    world.network.Deliver(1, FakeStreams::kDialler);
  }
  world.Settle();
  world.loop.Advance(absl::Seconds(10));
  world.Settle();
  CHECK(world.a.Log() == Strings{"up b", "heard b 2"});
  CHECK(world.b.Log() == Strings{"up a", "heard a 1"});
  CHECK(world.network.Open() == std::vector<StreamId>{1});
}

TEST_CASE("a dial that was refused for another one, which then fails, is tried again") {
  World world;
  world.a.Say(world.b, 1);
  world.b.Say(world.a, 2);
  world.network.Deliver(2, FakeStreams::kAnswerer);
  world.network.Deliver(2, FakeStreams::kDialler);
  world.network.Break(1);
  world.Settle();
  CHECK(world.a.Log() == Strings{"lost b", "down b"});
  world.loop.Advance(absl::Milliseconds(50));
  world.Settle();
  CHECK(world.a.Log() == Strings{"up b", "heard b 2"});
  CHECK(world.b.Log() == Strings{"up a"});
}

TEST_CASE("a break that the answerer notices late: it loses the old link before the new one is") {
  World world;
  world.Link();
  world.network.Break(1);
  world.network.Deliver(1, FakeStreams::kDialler);
  CHECK(world.a.Log() == Strings{"lost b", "down b"});
  world.a.Say(world.b, 2);
  // What it says while it is told goes over the new one.
  world.b.on_lost = [&](const NodeInfo&) { world.b.Say(world.a, 9); };
  world.network.Deliver(2, FakeStreams::kAnswerer);
  CHECK(world.b.Log() == Strings{"lost a", "down a", "up a"});
  world.Settle();
  CHECK(world.a.Log() == Strings{"up b", "heard b 9"});
  CHECK(world.b.Log() == Strings{"heard a 2"});
}

TEST_CASE("an answerer loses a link of which its dialler does not know: both are told") {
  World world;
  world.b.Say(world.a, 1);
  world.network.Deliver(1, FakeStreams::kAnswerer);
  world.a.Say(world.b, 2);
  world.network.Break(1);
  world.network.Deliver(1, FakeStreams::kAnswerer);
  CHECK(world.a.Log() == Strings{"up b", "lost b", "down b"});
  world.a.Say(world.b, 3);
  world.network.Deliver(2, FakeStreams::kAnswerer);
  CHECK(world.b.Log() == Strings{"lost a", "down a", "up a"});
  world.Settle();
  CHECK(world.b.Log() == Strings{"heard a 3"});
}

TEST_CASE("a Hello of a dial that is over, and arrives after a later one, is refused") {
  World world;
  world.a.Say(world.b, 1);
  world.loop.Advance(absl::Seconds(6));
  world.a.Log();
  world.a.Say(world.b, 2);
  world.network.Deliver(2, FakeStreams::kAnswerer);
  world.network.Deliver(1, FakeStreams::kAnswerer);
  world.Settle();
  CHECK(world.b.Log() == Strings{"up a", "heard a 2"});
  CHECK(world.a.Log() == Strings{"up b"});
}

TEST_CASE("who breaks the protocol loses the link") {
  World world;
  SECTION("no Hello") {
    const StreamId stream = world.a.port.Dial("b", {}) / 2;
    world.network.Deliver(stream, FakeStreams::kAnswerer);
    world.Settle();
    CHECK(world.network.Open().empty());
  }
  SECTION("a message before Welcome") {
    world.a.Say(world.b, 1);
    world.b.port.Send(FakeStreams::IdAt(1, FakeStreams::kAnswerer), Message(7));
    world.network.Deliver(1, FakeStreams::kDialler);
    CHECK(world.a.Log() == Strings{"lost b", "down b"});
  }
  SECTION("a second Hello") {
    world.Link();
    world.a.port.Send(FakeStreams::IdAt(1, FakeStreams::kDialler), Hello{.node = world.a.self()});
    world.Settle();
    CHECK(world.b.Log() == Strings{"lost a", "down a"});
    CHECK(world.a.Log() == Strings{"lost b", "down b"});
  }
}

TEST_CASE("more than may wait: all is lost, and no link comes of it") {
  World world;
  for (int i = 0; i < 20; ++i) world.a.Say(world.b, 1);
  CHECK(world.a.log.empty());
  SECTION("before the answer") { world.loop.Advance(absl::ZeroDuration()); }
  SECTION("after it") { world.Settle(); }
  world.Settle();
  CHECK(world.a.Log() == Strings{"lost b", "down b"});
  CHECK(world.a.whys.back() == "more than 2000 bytes wait for a link");
  world.loop.Advance(absl::Seconds(10));
  CHECK(world.a.log.empty());
}

TEST_CASE("a link without a message; if none can be had, nothing is lost") {
  World world;
  SECTION("had") {
    world.a.links.Connect(world.b.self());
    world.Settle();
    CHECK(world.a.links.IsUp(world.b.self().id));
    CHECK(world.a.Log() == Strings{"up b"});
  }
  SECTION("not had") {
    world.network.unreachable = true;
    world.a.links.Connect(world.b.self());
    world.Settle();
    CHECK(world.a.Log() == Strings{"down b"});
  }
}

TEST_CASE("an end in good order is told to the others at once, and to its own listener not") {
  World world;
  world.Link();
  world.a.links.Shutdown();
  world.a.Say(world.b, 2);
  world.Settle();
  CHECK(world.a.Log().empty());
  CHECK(world.b.Log() == Strings{"lost a", "down a"});
  CHECK(world.b.whys.back() == "its daemon has ended");
  CHECK(world.b.downs.back() == LinkEndReason::kShutdown);
}

}  // namespace
}  // namespace tutti
