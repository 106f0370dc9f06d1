#include "daemon/peer/seed_search.h"

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

// A daemon with links and a search, as PeerNetworkOverGrpc joins them; its log: "seed a", "lost a".
class Daemon final : public PeerListener, public LinkStreamsListener {
 public:
  Daemon(FakeClock* clock, ManualTaskRunner* loop, FakeStreams* network, NodeInfo self,
         const std::string& join, const std::string& heard_at)
      : port(network, heard_at),
        links({.clock = clock,
               .loop = loop,
               .streams = &port,
               .up = [this](const NodeInfo& node) { search.LinkIsUp(node); },
               .down = [this](const NodeInfo& node, const LinkEnd&) { search.LinkIsDown(node); }},
              {}, self),
        search(
            {.clock = clock,
             .loop = loop,
             .streams = &port,
             .links = &links,
             .seed_is = [this](const NodeInfo& seed, absl::Duration after) { SeedIs(seed, after); },
             .looks = [this](const std::string& why) { whys.push_back(why); }},
            {.join = join,
             .port_of_own_address =
                 self.address.empty() ? std::optional<uint16_t>(7411) : std::nullopt}) {
    port.Listen(this);
    port.local_host = "10.0.0.9";
    links.Start(this);
    search.Start();
  }

  void Received(StreamId stream, LinkFrame frame) override {
    if (search.Owns(stream)) return search.Received(stream, std::move(frame));
    const auto* const hello = std::get_if<Hello>(&frame);
    if (hello != nullptr && hello->expected.empty()) return search.Introduce(stream, *hello);
    links.Received(stream, std::move(frame));
  }
  void Broke(StreamId stream, const std::string& why) override {
    if (search.Owns(stream)) return search.Broke(stream, why);
    links.Broke(stream, why);
  }

  void SeedIs(const NodeInfo& seed, absl::Duration) override { log.push_back("seed " + seed.name); }
  void NoSeed() override {}
  void Heard(const NodeInfo&, PeerMessage) override {}
  void Lost(const NodeInfo& node, const std::string&) override {
    log.push_back("lost " + node.name);
  }
  Strings Log() { return std::exchange(log, {}); }
  void Die() {
    search.Stop();
    links.Shutdown();
    port.Die();
  }

  FakeStreams::Port port;
  Links links;
  SeedSearch search;
  Strings log;
  Strings whys;  // it looks for the seed
};

struct World {
  // One that is heard at `name`, and says so unless told otherwise.
  std::unique_ptr<Daemon> Start(const std::string& name, const std::string& join,
                                bool knows_address = true) {
    const NodeInfo self{.id = std::string(15, static_cast<char>('0' + ++incarnations)) + name,
                        .name = name,
                        .address = knows_address ? name : ""};
    return std::make_unique<Daemon>(&clock, &loop, &network, self, join, name);
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
  int incarnations = 0;
};

TEST_CASE("who joins nobody is the seed") {
  World world;
  const auto a = world.Start("a", "");
  CHECK(a->Log() == Strings{"seed a"});
}

TEST_CASE("who joins the seed links to it") {
  World world;
  const auto a = world.Start("a", "");
  const auto b = world.Start("b", "a");
  world.Settle();
  CHECK(b->Log() == Strings{"seed a"});
  CHECK(b->links.IsUp(a->links.self().id));
}

TEST_CASE("any daemon that has a link to the seed tells who it is") {
  World world;
  const auto a = world.Start("a", "");
  const auto b = world.Start("b", "a");
  const auto c = world.Start("c", "b");
  world.Settle();
  world.Wait(absl::Seconds(1));
  CHECK(c->Log() == Strings{"seed a"});
  CHECK(c->links.IsUp(a->links.self().id));
  CHECK_FALSE(c->links.IsUp(b->links.self().id));
}

TEST_CASE("all may be told to join the same: who finds itself there is the seed") {
  World world;
  const auto a = world.Start("a", "a");
  const auto b = world.Start("b", "a");
  world.Settle();
  world.Wait(absl::Seconds(1));
  CHECK(a->Log() == Strings{"seed a"});
  CHECK(b->Log() == Strings{"seed a"});
}

TEST_CASE("two that join each other have no seed, and are found out by nobody") {
  World world;
  const auto a = world.Start("a", "b");
  const auto b = world.Start("b", "a");
  world.Wait(absl::Seconds(2));
  CHECK(a->Log().empty());
  CHECK(b->Log().empty());
}

TEST_CASE("nobody there: asked again, after 25 to 50 ms and up to 500") {
  World world;
  const auto b = world.Start("b", "a");
  int asked = 0;
  world.network.on_dial = [&](StreamId, const Hello&) { ++asked; };
  world.Settle();
  world.loop.Advance(absl::Milliseconds(24));
  CHECK(asked == 0);
  world.loop.Advance(absl::Milliseconds(26));
  CHECK(asked == 1);
  world.Wait(absl::Seconds(10));
  asked = 0;
  world.Wait(absl::Seconds(10));
  CHECK(asked >= 20);
  CHECK(asked <= 40);
  CHECK(b->whys.size() >= 40);
  CHECK(b->whys.back() == "the connection broke");
  // It is there at last.
  const auto a = world.Start("a", "");
  world.Wait(absl::Milliseconds(600));
  CHECK(b->Log() == Strings{"seed a"});
}

TEST_CASE("an address that swallows everything: asked again after the timeout") {
  World world;
  const auto a = world.Start("a", "");
  const auto b = world.Start("b", "a");
  int asked = 0;
  world.network.on_dial = [&](StreamId, const Hello&) { ++asked; };
  world.loop.Advance(absl::Milliseconds(4999));
  CHECK(asked == 0);
  world.loop.Advance(absl::Milliseconds(600));
  CHECK(asked == 1);
  world.Settle();
  CHECK(b->Log() == Strings{"seed a"});
}

TEST_CASE("the link to the seed breaks: lost, and found again") {
  World world;
  const auto a = world.Start("a", "");
  const auto b = world.Start("b", "a");
  world.Settle();
  b->Log();
  for (const StreamId stream : world.network.Open()) world.network.Break(stream);
  world.Settle();
  CHECK(b->Log() == Strings{"lost a"});
  CHECK(b->whys == Strings{"the link to the seed is lost"});
  world.Wait(absl::Milliseconds(200));
  CHECK(b->Log() == Strings{"seed a"});
}

TEST_CASE("a seed that is restarted is another one, and is found") {
  World world;
  auto a = world.Start("a", "");
  const auto b = world.Start("b", "a");
  world.Settle();
  b->Log();
  a->Die();
  world.Wait(absl::Seconds(1));
  CHECK(b->Log() == Strings{"lost a"});
  const auto again = world.Start("a", "");
  world.Wait(absl::Seconds(1));
  CHECK(b->Log() == Strings{"seed a"});
  CHECK(b->links.IsUp(again->links.self().id));
}

TEST_CASE("the seed dials again: it is the seed as before, without being asked") {
  World world;
  const auto a = world.Start("a", "");
  const auto b = world.Start("b", "a");
  world.Settle();
  b->Log();
  const StreamId link = world.network.Open().back();
  world.network.Break(link);
  world.network.Deliver(link, FakeStreams::kAnswerer);
  CHECK(a->Log() == Strings{"seed a", "lost b"});
  a->links.Say(b->links.self(), Withdraw{});
  const StreamId stream = link + 1;
  world.network.Deliver(stream, FakeStreams::kAnswerer);
  CHECK(b->Log() == Strings{"lost a", "seed a"});
}

TEST_CASE("the own address, if no setting says it, is that of the connection") {
  World world;
  const auto a = world.Start("a", "");
  const auto b = world.Start("b", "a", /*knows_address=*/false);
  CHECK(b->links.self().address.empty());
  SECTION("of either kind") {
    world.Settle();
    CHECK(b->links.self().address == "10.0.0.9:7411");
  }
  SECTION("in brackets") {
    b->port.local_host = "fd00::9";
    world.Settle();
    CHECK(b->links.self().address == "[fd00::9]:7411");
  }
  CHECK(b->Log() == Strings{"seed a"});
}

TEST_CASE("a daemon that speaks another version is told") {
  World world;
  const auto a = world.Start("a", "");
  const auto b = world.Start("b", "a");
  world.Settle();
  const StreamId stream =
      b->port.Dial("a", {.protocol_version = 9, .node = b->links.self(), .expected = ""}) / 2;
  world.network.Deliver(stream, FakeStreams::kAnswerer);
  const auto& answer = world.network.stream(stream).arriving[FakeStreams::kDialler];
  CHECK(std::get<LinkEnd>(std::get<LinkFrame>(answer.front())).reason ==
        LinkEndReason::kWrongVersion);
}

}  // namespace
}  // namespace tutti
