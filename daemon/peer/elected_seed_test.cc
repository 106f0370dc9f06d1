#include "daemon/peer/elected_seed.h"

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "base/testing/fake_clock.h"
#include "base/testing/manual_task_runner.h"
#include "daemon/peer/testing/fake_seed_store.h"
#include "daemon/peer/testing/fake_streams.h"

namespace tutti {
namespace {

using Strings = std::vector<std::string>;

// A daemon with links and an election, as PeerNetworkOverGrpc joins them; its log: "seed a after
// 5s", "none".
class Daemon final : public PeerListener, public LinkStreamsListener {
 public:
  Daemon(FakeClaim* claim, FakeStreams* network, NodeInfo self)
      : port(network, self.address),
        store(claim),
        links({.clock = claim->clock,
               .loop = claim->loop,
               .streams = &port,
               .up = [this](const NodeInfo& node) { election.LinkIsUp(node); },
               .down = [this](const NodeInfo& node, const LinkEnd&) { election.LinkIsDown(node); }},
              {}, self),
        election(
            {.clock = claim->clock,
             .loop = claim->loop,
             .streams = &port,
             .links = &links,
             .seed_is = [this](const NodeInfo& node, absl::Duration after) { SeedIs(node, after); },
             .looks =
                 [this](const std::string& why) {
                   whys.push_back(why);
                   NoSeed();
                 }},
            &store, {}) {
    port.Listen(this);
    links.Start(this);
    election.Start();
  }

  void Received(StreamId stream, LinkFrame frame) override {
    const auto* const hello = std::get_if<Hello>(&frame);
    if (hello != nullptr && hello->expected.empty()) return election.Introduce(stream, *hello);
    links.Received(stream, std::move(frame));
  }
  void Broke(StreamId stream, const std::string& why) override { links.Broke(stream, why); }

  void SeedIs(const NodeInfo& node, absl::Duration opens_after) override {
    seed = node.name;
    const bool self = node.id == links.self().id;
    log.push_back("seed " + node.name +
                  (self ? " after " + absl::FormatDuration(opens_after) : ""));
  }
  void NoSeed() override {
    if (!seed.empty()) log.push_back("none");
    seed.clear();
  }
  void Heard(const NodeInfo&, PeerMessage) override {}
  void Lost(const NodeInfo&, const std::string&) override {}
  Strings Log() { return std::exchange(log, {}); }
  // As one that is killed: it says nothing any more, to nobody.
  void Die() {
    store.unreachable = true;
    election.Stop();
    links.Shutdown();
    port.Die();
  }

  FakeStreams::Port port;
  FakeSeedStore store;
  Links links;
  ElectedSeed election;
  std::string seed;
  Strings log;
  Strings whys;
};

struct World {
  std::unique_ptr<Daemon> Start(const std::string& name) {
    const NodeInfo self{.id = std::string(15, static_cast<char>('0' + ++incarnations)) + name,
                        .name = name,
                        .address = name};
    return std::make_unique<Daemon>(&claim, &network, self);
  }
  void Settle() {
    while (true) {
      loop.RunUntilIdle();
      const auto arriving = network.Arriving();
      if (arriving.empty()) return;
      network.Deliver(arriving.front().first, arriving.front().second);
    }
  }
  void Wait(absl::Duration time) {
    for (int i = 0; i < 100; ++i) {
      loop.Advance(time / 100);
      Settle();
    }
  }

  FakeClock clock;
  ManualTaskRunner loop{&clock};
  FakeStreams network;
  FakeClaim claim{&clock, &loop};
  int incarnations = 0;
};

TEST_CASE("the first daemon is elected, and opens at once; others link to it") {
  World world;
  const auto a = world.Start("a");
  world.Wait(absl::Seconds(1));
  CHECK(a->Log() == Strings{"seed a after 0"});
  const auto b = world.Start("b");
  world.Wait(absl::Minutes(10));
  CHECK(b->Log() == Strings{"seed a"});
  CHECK(a->Log().empty());
}

TEST_CASE("of daemons that start together, one is elected") {
  World world;
  world.claim.delay = absl::Milliseconds(5);
  std::vector<std::unique_ptr<Daemon>> daemons;
  for (const char* name : {"a", "b", "c", "d"}) daemons.push_back(world.Start(name));
  world.Wait(absl::Seconds(3));
  for (const auto& daemon : daemons) CHECK(daemon->seed == world.claim.holder()->name);
}

TEST_CASE("if the seed dies, another is elected when its claim has lapsed") {
  World world;
  const auto a = world.Start("a");
  world.Wait(absl::Seconds(1));
  const auto b = world.Start("b");
  const auto c = world.Start("c");
  world.Wait(absl::Seconds(3));
  b->Log();
  c->Log();
  a->Die();
  world.Wait(absl::Seconds(7));
  const std::string next = world.claim.holder().value().name;
  CHECK(next != "a");
  CHECK((next == "b" ? b : c)->Log() == Strings{"none", "seed " + next + " after 5s"});
  CHECK((next == "b" ? c : b)->Log() == Strings{"none", "seed " + next});
}

TEST_CASE("one that ends in good order is followed at once") {
  World world;
  const auto a = world.Start("a");
  world.Wait(absl::Seconds(1));
  const auto b = world.Start("b");
  world.Wait(absl::Seconds(1));
  a->election.Stop();
  a->Die();
  world.Wait(absl::Seconds(2));
  CHECK(b->seed == "b");
}

TEST_CASE("a seed that cannot renew its claim is none before another can be") {
  World world;
  const auto a = world.Start("a");
  world.Wait(absl::Seconds(1));
  const auto b = world.Start("b");
  world.Wait(absl::Seconds(3));
  a->Log();
  b->Log();
  a->store.unreachable = true;
  for (int i = 0; i < 1000; ++i) {
    world.Wait(absl::Milliseconds(10));
    CHECK_FALSE((a->seed == "a" && b->seed == "b"));
  }
  CHECK(a->Log() == Strings{"none"});
  CHECK(a->whys.back() == "the store is away");
  CHECK(b->Log() == Strings{"seed b after 5s"});
  a->store.unreachable = false;
  world.Wait(absl::Seconds(3));
  CHECK(a->Log() == Strings{"seed b"});
}

TEST_CASE("while the store is away there is no seed, and afterwards there is one again") {
  World world;
  const auto a = world.Start("a");
  world.Wait(absl::Seconds(1));
  const auto b = world.Start("b");
  world.Wait(absl::Seconds(3));
  world.claim.unreachable = true;
  world.Wait(absl::Seconds(2));
  // Who is linked to it cannot know; it would refuse.
  CHECK(a->seed == "a");
  world.Wait(absl::Seconds(10));
  CHECK(a->seed.empty());
  world.claim.unreachable = false;
  world.Wait(absl::Seconds(10));
  REQUIRE(world.claim.holder().has_value());
  CHECK(a->seed == world.claim.holder()->name);
  CHECK(b->seed == world.claim.holder()->name);
}

TEST_CASE("who is elected again is told everything again") {
  World world;
  const auto a = world.Start("a");
  world.Wait(absl::Seconds(1));
  const auto b = world.Start("b");
  world.Wait(absl::Seconds(3));
  a->Log();
  b->Log();
  b->store.unreachable = true;  // so that it is not the one
  world.claim.Remove();
  world.Wait(absl::Seconds(3));
  CHECK(a->Log() == Strings{"none", "seed a after 5s"});
  CHECK(b->Log().empty());
  b->store.unreachable = false;
  world.Wait(absl::Seconds(2));
  CHECK(b->Log() == Strings{"seed a"});
}

TEST_CASE("answers that come later than the claim lasts make nobody the seed") {
  World world;
  world.claim.delay = absl::Seconds(5);
  const auto a = world.Start("a");
  world.Wait(absl::Minutes(1));
  CHECK(a->Log().empty());
  CHECK(a->store.resigned > 0);
  world.claim.delay = absl::ZeroDuration();
  world.Wait(absl::Seconds(12));
  CHECK(a->seed == "a");
}

TEST_CASE("an answer that was on its way when the claim lapsed counts no more") {
  World world;
  const auto a = world.Start("a");
  world.Wait(absl::Seconds(1));
  a->Log();
  // It is renewed 1.7 s after it was had, and the answer comes after 4.5 s of that.
  world.claim.delay = absl::Milliseconds(4400);
  world.Wait(absl::Seconds(7));
  CHECK(a->Log() == Strings{"none"});
}

TEST_CASE("a seed that cannot be reached is not had, and others are told why") {
  World world;
  const auto a = world.Start("a");
  world.Wait(absl::Seconds(1));
  world.network.unreachable = true;
  const auto b = world.Start("b");
  world.Wait(absl::Seconds(20));
  CHECK(b->Log().empty());
  CHECK(b->whys.back() == "a, which is the seed, can't be reached");
  world.network.unreachable = false;
  world.Wait(absl::Seconds(2));
  CHECK(b->Log() == Strings{"seed a"});
}

}  // namespace
}  // namespace tutti
