#include "daemon/peer/known_nodes.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "base/testing/fake_clock.h"

namespace tutti {
namespace {

using Strings = std::vector<std::string>;

NodeInfo At(char id, const std::string& address, const std::string& name = "") {
  return {.id = std::string(16, id),
          .name = name.empty() ? std::string(1, id) : name,
          .address = address};
}
const LinkEnd kBroke{LinkEndReason::kOther, "the connection broke"};

struct World {
  Strings Linked() const {
    Strings names;
    for (const NodeInfo& node : known.view().linked) names.push_back(node.name);
    return names;
  }
  Strings Lost() const {
    Strings ids;
    for (const auto& one : known.view().lost) ids.push_back(one.node.id.substr(0, 1));
    return ids;
  }

  FakeClock clock;
  NodeInfo self = At('s', "10.0.0.1:1");
  KnownNodes known{&clock, self};
  NodeInfo a = At('a', "10.0.0.2:1");
  NodeInfo b = At('b', "10.0.0.3:1");
};

TEST_CASE("links come and go; who broke off is lost, who ends in good order is not") {
  World world;
  world.known.LinkIsUp(world.a);
  world.known.LinkIsUp(world.b);
  CHECK(world.Linked() == Strings{"a", "b"});
  world.clock.Advance(absl::Seconds(3));
  world.known.LinkIsDown(world.a, kBroke);
  world.known.LinkIsDown(world.b, {LinkEndReason::kShutdown, "its daemon has ended"});
  CHECK(world.Linked().empty());
  const KnownNodes::View view = world.known.view();
  REQUIRE(view.lost.size() == 1);
  CHECK(view.lost[0].node == world.a);
  CHECK(view.lost[0].when == world.clock.Now());
  CHECK(view.lost[0].why == "the connection broke");
}

TEST_CASE("a dial that has failed is nobody's loss") {
  World world;
  world.known.LinkIsDown(world.a, kBroke);
  CHECK(world.Lost().empty());
  world.known.LinkIsUp(world.a);
  world.known.LinkIsDown(world.a, kBroke);
  const MonotonicTime when = world.clock.Now();
  world.clock.Advance(absl::Seconds(1));
  world.known.LinkIsDown(world.a, kBroke);
  REQUIRE(world.known.view().lost.size() == 1);
  CHECK(world.known.view().lost[0].when == when);
}

TEST_CASE("who comes back is not lost any more, nor whose place a new daemon has taken") {
  World world;
  world.known.LinkIsUp(world.a);
  world.known.LinkIsDown(world.a, kBroke);
  SECTION("itself") { world.known.LinkIsUp(world.a); }
  SECTION("restarted, on another port") { world.known.LinkIsUp(At('n', "10.0.0.2:77", "a")); }
  SECTION("restarted before its loss was noticed, on the same port") {
    world.known.LinkIsUp(world.a);
    world.known.LinkIsUp(At('n', "10.0.0.2:1", "a"));
    world.known.LinkIsDown(world.a, kBroke);
  }
  CHECK(world.Lost().empty());
}

TEST_CASE("others on the same host, or of the same name, take nobody's place") {
  World world;
  // Both were there before.
  const NodeInfo other = At('o', "10.0.0.2:2", "a");
  world.known.LinkIsUp(world.a);
  world.known.LinkIsUp(other);
  world.known.LinkIsDown(world.a, kBroke);
  world.known.LinkIsDown(other, kBroke);
  world.known.LinkIsUp(other);
  CHECK(world.Lost() == Strings{"a"});
  world.known.LinkIsUp(At('n', "10.0.0.4:1", "a"));
  world.known.LinkIsUp(At('m', "10.0.0.2:3", "m"));
  CHECK(world.Lost() == Strings{"a"});
}

TEST_CASE("lost ones are shown for ten minutes, and the last 16 of them") {
  World world;
  world.known.LinkIsUp(world.a);
  world.known.LinkIsDown(world.a, kBroke);
  world.clock.Advance(KnownNodes::kLostFor);
  CHECK(world.Lost() == Strings{"a"});
  world.clock.Advance(absl::Milliseconds(1));
  CHECK(world.Lost().empty());
  for (char id = 'a'; id <= 'z'; ++id) {
    const NodeInfo node = At(id, "10.0.0.9:" + std::string(1, id));
    world.known.LinkIsUp(node);
    world.known.LinkIsDown(node, kBroke);
  }
  REQUIRE(world.Lost().size() == 16);
  CHECK(world.Lost().front() == "z");
  CHECK(world.Lost().back() == "k");
}

TEST_CASE("where it stands with the seed, and since when") {
  World world;
  const MonotonicTime start = world.clock.Now();
  CHECK_FALSE(world.known.view().connected);
  CHECK(world.known.view().since == start);
  world.clock.Advance(absl::Seconds(1));
  world.known.LooksForSeed("refused");
  world.clock.Advance(absl::Seconds(1));
  world.known.LooksForSeed("no answer");
  CHECK(world.known.view().since == start);
  CHECK(world.known.view().why_not == "no answer");
  world.known.SeedIs(world.a);
  const MonotonicTime found = world.clock.Now();
  world.clock.Advance(absl::Seconds(1));
  world.known.SeedIs(world.a);
  CHECK(world.known.view().connected);
  CHECK_FALSE(world.known.view().is_seed());
  CHECK(world.known.view().since == found);
  CHECK(world.known.view().why_not.empty());
  world.known.LooksForSeed("the link to the seed is lost");
  CHECK_FALSE(world.known.view().connected);
  CHECK(world.known.view().since == world.clock.Now());
  CHECK(world.known.view().seed == world.a);
  world.known.SeedIs(world.self);
  CHECK(world.known.view().is_seed());
}

TEST_CASE("silence lasts from the first question without an answer to the next sign of life") {
  World world;
  const MonotonicTime first = world.clock.Now();
  const auto ask = [&] { return world.known.AskedInVain(world.a.id, world.clock.Now()); };
  CHECK(ask() == first);
  world.clock.Advance(absl::Seconds(2));
  CHECK(ask() == first);
  SECTION("an answer") { world.known.Answered(world.a.id); }
  SECTION("a link") { world.known.LinkIsUp(world.a); }
  CHECK(ask() == world.clock.Now());
}

}  // namespace
}  // namespace tutti
