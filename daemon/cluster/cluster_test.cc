// How groups over several nodes form, and how they end: every rule by itself.
// cluster_history_test.cc has what random faults make of them.
#include "daemon/cluster/cluster.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "daemon/cluster/testing/test_node.h"

namespace tutti {
namespace {

using Catch::Contains;

// Rank i joins on node i; returns the epoch, in which all are live.
EpochId FormOn(TestWorld* world, size_t nodes, const std::string& group = "dp") {
  std::vector<uint64_t> joins;
  for (Rank rank = 0; rank < nodes; ++rank) {
    joins.push_back((*world)[rank].Join(group, rank, static_cast<uint32_t>(nodes)));
  }
  world->Advance(absl::Seconds(1));
  const auto epoch = (*world)[0].EpochOf(joins[0]);
  for (size_t node = 0; node < nodes; ++node) REQUIRE((*world)[node].EpochOf(joins[node]) == epoch);
  REQUIRE(epoch.has_value());
  return *epoch;
}

TEST_CASE("a group forms when the last rank has joined, wherever that is") {
  TestWorld world(3);
  const uint64_t on_c = world[2].Join("dp", 0, 4);
  const uint64_t on_b = world[1].Join("dp", 3, 4);
  const uint64_t on_b_too = world[1].Join("dp", 1, 4);
  world.Advance(absl::Seconds(1));
  CHECK_FALSE(world[2].Answered(on_c));
  const uint64_t on_a = world[0].Join("dp", 2, 4);
  world.Advance(absl::Seconds(1));
  const auto epoch = world[0].EpochOf(on_a);
  REQUIRE(epoch.has_value());
  CHECK(world[2].EpochOf(on_c) == epoch);
  CHECK(world[1].EpochOf(on_b) == epoch);
  CHECK(world[1].EpochOf(on_b_too) == epoch);
  // Nodes are in the order of their lowest ranks: the first coordinates.
  const Roster& roster = world[1].entered.at(*epoch).roster;
  CHECK(roster.epoch == 1);
  CHECK(roster.nodes[0].node.name == "c");
  CHECK(roster.nodes[1].node.name == "b");
  CHECK(RanksOf(roster.nodes[1]) == std::vector<Rank>{1, 3});
  CHECK(world[2].cluster.coordinated() == 1);
  CHECK(world[1].cluster.joins() == 0);
}

TEST_CASE("who never joins is named to all who wait, on all nodes") {
  TestWorld world(3);
  const uint64_t here = world[1].Join("dp", 1, 4, absl::Seconds(10));
  const uint64_t there = world[2].Join("dp", 2, 4, absl::Seconds(30));
  world.Advance(absl::Seconds(11));
  REQUIRE(world[1].FailureOf(here).has_value());
  REQUIRE(world[2].FailureOf(there).has_value());
  CHECK(world[1].FailureOf(here) == world[2].FailureOf(there));
  CHECK(world[1].FailureOf(here)->cause == Cause::kDeadline);
  CHECK(world[1].FailureOf(here)->missing == std::vector<Rank>{0, 3});
  CHECK_THAT(world[1].FailureOf(here)->message, Contains("ranks 0, 3 never joined"));
}

TEST_CASE("joiners that disagree all fail, whichever node they are on") {
  TestWorld world(3);
  const uint64_t two = world[1].Join("dp", 0, 2);
  world.Advance(absl::Seconds(1));
  const uint64_t three = world[2].Join("dp", 1, 3);
  world.Advance(absl::Seconds(1));
  REQUIRE(world[1].FailureOf(two).has_value());
  CHECK(world[1].FailureOf(two)->cause == Cause::kMismatch);
  CHECK(world[1].FailureOf(two) == world[2].FailureOf(three));
}

TEST_CASE("a seat is one join's; the other is told at once") {
  TestWorld world(3);
  const uint64_t first = world[1].Join("dp", 0, 2);
  world.Advance(absl::Seconds(1));
  const uint64_t second = world[2].Join("dp", 0, 2);
  world.Advance(absl::Seconds(1));
  REQUIRE(world[2].FailureOf(second).has_value());
  CHECK(world[2].FailureOf(second)->cause == Cause::kSeatTaken);
  CHECK_FALSE(world[1].Answered(first));
}

TEST_CASE("a name that is in use is refused on every node, and free once the group has ended") {
  TestWorld world(3);
  const EpochId epoch = FormOn(&world, 2);
  const uint64_t late = world[2].Join("dp", 0, 1);
  world.Advance(absl::Seconds(1));
  REQUIRE(world[2].FailureOf(late).has_value());
  CHECK(world[2].FailureOf(late)->cause == Cause::kSeatTaken);
  CHECK_THAT(world[2].FailureOf(late)->message, Contains("is in use"));
  world[1].Fail(epoch, "a disk is full");
  world.Advance(absl::Seconds(1));
  const uint64_t again = world[2].Join("dp", 0, 1);
  world.Advance(absl::Seconds(1));
  REQUIRE(world[2].EpochOf(again).has_value());
  CHECK(world[2].entered.at(*world[2].EpochOf(again)).roster.epoch == 2);
}

TEST_CASE("a name can be joined again at once by who knows that its epoch is over") {
  TestWorld world(3);
  const EpochId epoch = FormOn(&world, 3);
  for (Rank rank = 0; rank < 3; ++rank) world[rank].LeaveRank(epoch, rank);
  // Not a moment later: the coordinator has not even heard of it.
  FormOn(&world, 3);
  CHECK(world[0].cluster.epochs() == 1);
}

TEST_CASE("the first failure ends the epoch, and everybody is told the same") {
  TestWorld world(3);
  const EpochId epoch = FormOn(&world, 3);
  world[0].completed = 7;
  world[2].Fail(epoch, "a disk is full");
  world[1].Fail(epoch, "a fan has stopped");
  world.Advance(absl::Seconds(1));
  for (size_t node = 0; node < 3; ++node) {
    REQUIRE(world[node].endings[epoch].size() == 1);
    CHECK(world[node].endings[epoch] == world[0].endings[epoch]);
    CHECK(world[node].endings[epoch][0].completed_through == 7);
    CHECK(world[node].cluster.epochs() == 0);
    CHECK(world[node].cluster.coordinated() == 0);
  }
  CHECK(world[0].cluster.seed().names_in_use() == 0);
}

TEST_CASE("a broken connection is the fault of the node that has died, if one has") {
  TestWorld world(3);
  const EpochId epoch = FormOn(&world, 3);
  const bool dies = GENERATE(false, true);
  world[1].Fail(epoch, "connection reset by peer", Cause::kBackend);
  world.Advance(absl::Milliseconds(10));
  CHECK(world[0].endings.empty());
  if (dies) world.Kill(2);
  world.Advance(absl::Seconds(1));
  for (size_t node = 0; node < 2; ++node) {
    REQUIRE(world[node].endings[epoch].size() == 1);
    const Failure& failure = world[node].endings[epoch][0].failure;
    CHECK(failure.cause == (dies ? Cause::kNodeLost : Cause::kBackend));
    CHECK_THAT(failure.message, Contains(dies ? "node c" : "connection reset by peer"));
  }
  CHECK(world[0].cluster.coordinated() == 0);
}

TEST_CASE("who leaves is told to all, again and again, and the last one closes the door") {
  TestWorld world(3);
  const EpochId epoch = FormOn(&world, 3);
  world[1].LeaveRank(epoch, 1);
  world.Advance(absl::Seconds(1));
  REQUIRE(world[2].endings[epoch].size() == 1);
  CHECK(world[2].endings[epoch][0].closed);
  CHECK(world[2].endings[epoch][0].leaver == 1);
  world[0].LeaveRank(epoch, 0);
  world.Advance(absl::Seconds(1));
  REQUIRE(world[2].endings[epoch].size() == 2);
  CHECK(world[0].cluster.coordinated() == 1);
  world[2].LeaveRank(epoch, 2);
  world.Advance(absl::Seconds(1));
  CHECK(world[0].cluster.coordinated() == 0);
  CHECK(world[0].cluster.seed().names_in_use() == 0);
}

TEST_CASE("a deadline that has passed names who has not arrived, on all nodes") {
  TestWorld world(3);
  const EpochId epoch = FormOn(&world, 3);
  world[1].missing = {1};
  world[2].missing = {2};
  world.network.Break(0, 2);  // it will take a while to be noticed
  world[0].cluster.Fail(epoch,
                        {.failure = {.cause = Cause::kDeadline,
                                     .message = "allreduce #3: deadline passed after 5s",
                                     .missing = {2}}},
                        Place{.sequence = 3});
  world.Advance(absl::Seconds(10));
  REQUIRE(world[1].endings[epoch].size() == 1);
  const Failure& failure = world[1].endings[epoch][0].failure;
  CHECK(failure.missing == std::vector<Rank>{1, 2});
  CHECK_THAT(failure.message,
             Contains("allreduce #3: deadline passed after 5s; not arrived: rank 1: idle, on node "
                      "b; rank 2: "));
  CHECK(world[0].cluster.coordinated() == 0);
  // The other side of the broken link hears what it can see for itself.
  REQUIRE(world[2].endings[epoch].size() == 1);
  CHECK(world[2].endings[epoch][0].failure.cause == Cause::kNodeLost);
}

TEST_CASE("a node that dies is named by the coordinator, a dead coordinator by everybody") {
  TestWorld world(4);
  world.Kill(0);  // the seed is not needed for that
  const std::string how = GENERATE(as<std::string>(), "member", "coordinator");
  world.Start(0);
  world.Advance(absl::Seconds(10));
  std::vector<uint64_t> joins;
  for (Rank rank = 0; rank < 3; ++rank) joins.push_back(world[rank + 1].Join("dp", rank, 3));
  world.Advance(absl::Seconds(1));
  const EpochId epoch = world[1].EpochOf(joins[0]).value();
  const size_t victim = how == "member" ? 3 : 1;
  world.Kill(0);
  world.Kill(victim);
  world.Advance(absl::Seconds(10));
  for (size_t node = 1; node < 4; ++node) {
    if (node == victim) continue;
    REQUIRE(world[node].endings[epoch].size() == 1);
    const Failure& failure = world[node].endings[epoch][0].failure;
    CHECK(failure.cause == Cause::kNodeLost);
    CHECK(failure.culprits == std::vector<Rank>{static_cast<Rank>(victim - 1)});
    CHECK_THAT(failure.message, Contains(victim == 3 ? "node d" : "node b"));
  }
}

TEST_CASE("who gives up while the group forms is waited for by the others, till their own end") {
  TestWorld world(3);
  world[2].answers_meetings = false;  // so that it goes on forming
  const uint64_t a = world[0].Join("dp", 0, 3);
  const uint64_t b = world[1].Join("dp", 1, 3);
  const uint64_t c = world[2].Join("dp", 2, 3);
  world.Advance(absl::Seconds(1));
  CHECK(world[2].entered.size() == 1);
  world[2].GiveUp(c);
  world.Advance(absl::Seconds(1));
  CHECK_FALSE(world[0].Answered(a));
  CHECK(world[2].entered.empty());
  world[2].answers_meetings = true;
  const uint64_t replacement = world[2].Join("dp", 2, 3);
  world.Advance(absl::Seconds(1));
  REQUIRE(world[0].EpochOf(a).has_value());
  CHECK(world[1].EpochOf(b) == world[0].EpochOf(a));
  CHECK(world[2].EpochOf(replacement) == world[0].EpochOf(a));
  CHECK_FALSE(world[2].Answered(c));
}

TEST_CASE("a node that can't connect fails the formation for all, saying why") {
  TestWorld world(2);
  world[1].answers_meetings = false;
  const uint64_t a = world[0].Join("dp", 0, 2);
  const uint64_t b = world[1].Join("dp", 1, 2);
  world.Advance(absl::Seconds(1));
  world[1].Fail(world[1].entered.begin()->first, "no route to host");
  world.Advance(absl::Seconds(1));
  REQUIRE(world[0].FailureOf(a).has_value());
  CHECK(world[0].FailureOf(a)->message == "no route to host");
  CHECK(world[1].FailureOf(b) == world[0].FailureOf(a));
}

TEST_CASE("a seed that is restarted is told everything again, and gives no name twice") {
  TestWorld world(4);
  std::vector<uint64_t> joins;
  for (Rank rank = 0; rank < 2; ++rank) joins.push_back(world[rank + 1].Join("used", rank, 2));
  const uint64_t waiting = world[3].Join("dp", 0, 2);
  world.Advance(absl::Seconds(1));
  world.Kill(0);
  world.Advance(absl::Seconds(1));
  CHECK_FALSE(world[3].Answered(waiting));
  world.Start(0, absl::Seconds(5));
  const uint64_t early = world[0].Join("used", 0, 1);
  const uint64_t partner = world[0].Join("dp", 1, 2);
  world.Advance(absl::Seconds(10));
  // It has waited until it was told.
  REQUIRE(world[0].FailureOf(early).has_value());
  CHECK(world[0].FailureOf(early)->cause == Cause::kSeatTaken);
  REQUIRE(world[3].EpochOf(waiting).has_value());
  CHECK(world[0].EpochOf(partner) == world[3].EpochOf(waiting));
  // Numbers go on.
  world[1].Fail(*world[1].EpochOf(joins[0]), "over");
  world.Advance(absl::Seconds(1));
  const uint64_t next = world[0].Join("used", 0, 1);
  world.Advance(absl::Seconds(1));
  CHECK(world[0].entered.at(world[0].EpochOf(next).value()).roster.epoch == 2);
}

// All that `places` know: this one is the seed now.
void Elect(TestWorld* world, size_t seed, const std::vector<size_t>& places) {
  for (const size_t place : places) {
    (*world)[place].cluster.SeedIs(world->network.InfoOf(seed), absl::Seconds(5));
  }
}

TEST_CASE("another node becomes the seed: it is told what the one before knew") {
  TestWorld world(4);
  std::vector<uint64_t> joins;
  for (Rank rank = 0; rank < 2; ++rank) joins.push_back(world[rank + 2].Join("used", rank, 2));
  const uint64_t waiting = world[2].Join("dp", 0, 2);
  world.Advance(absl::Seconds(1));
  world[0].cluster.NoSeed();
  CHECK(world[0].cluster.seed().formations() == 0);
  CHECK(world[0].cluster.seed().names_in_use() == 0);
  Elect(&world, 1, {0, 1, 2, 3});
  const uint64_t taken = world[0].Join("used", 0, 1);
  const uint64_t partner = world[0].Join("dp", 1, 2);
  world.Advance(absl::Seconds(4));
  CHECK_FALSE(world[2].Answered(waiting));
  world.Advance(absl::Seconds(2));
  REQUIRE(world[0].FailureOf(taken).has_value());
  CHECK(world[0].FailureOf(taken)->cause == Cause::kSeatTaken);
  REQUIRE(world[2].EpochOf(waiting).has_value());
  CHECK(world[0].EpochOf(partner) == world[2].EpochOf(waiting));
  // Numbers go on.
  world[2].Fail(*world[2].EpochOf(joins[0]), "over");
  world.Advance(absl::Seconds(1));
  const uint64_t next = world[3].Join("used", 0, 1);
  world.Advance(absl::Seconds(1));
  CHECK(world[3].entered.at(world[3].EpochOf(next).value()).roster.epoch == 2);
}

TEST_CASE("what a node is told before it knows that it is the seed is not lost") {
  TestWorld world(4);
  world[0].cluster.NoSeed();
  Elect(&world, 1, {2, 3});
  const uint64_t first = world[2].Join("dp", 0, 2);
  const uint64_t second = world[3].Join("dp", 1, 2);
  world.Advance(absl::Seconds(2));
  CHECK_FALSE(world[2].Answered(first));
  Elect(&world, 1, {1});
  world.Advance(absl::Seconds(6));
  REQUIRE(world[2].EpochOf(first).has_value());
  CHECK(world[2].EpochOf(first) == world[3].EpochOf(second));
}

TEST_CASE("a node that is no seed introduces nobody, and says so when the time is over") {
  TestWorld world(3);
  world[0].cluster.NoSeed();
  Elect(&world, 1, {2});
  const uint64_t first = world[2].Join("dp", 0, 2, absl::Seconds(10));
  const uint64_t second = world[2].Join("dp", 1, 2, absl::Seconds(10));
  world.Advance(absl::Seconds(11));
  REQUIRE(world[2].FailureOf(first).has_value());
  CHECK(world[2].FailureOf(first)->message.find("there was no seed to introduce them") !=
        std::string::npos);
  CHECK(world[2].FailureOf(second)->cause == Cause::kDeadline);
}

TEST_CASE("a group that is live does not need the seed") {
  TestWorld world(4);
  std::vector<uint64_t> joins;
  for (Rank rank = 0; rank < 3; ++rank) joins.push_back(world[rank + 1].Join("dp", rank, 3));
  world.Advance(absl::Seconds(1));
  const EpochId epoch = world[1].EpochOf(joins[0]).value();
  world.Kill(0);
  world.Advance(absl::Seconds(20));
  CHECK(world[2].endings.empty());
  world[1].cluster.Settle(epoch, 4, true);
  world.Advance(absl::Seconds(1));
  REQUIRE(world[3].settled.size() == 1);
  CHECK(world[3].settled[0].sequence == 4);
}

TEST_CASE("nobody speaks for another node: what is forged is ignored") {
  TestWorld world(3);
  const EpochId epoch = FormOn(&world, 2);
  const NodeInfo stranger = world.network.InfoOf(2);
  const Ending ending{.failure = {.cause = Cause::kInternal, .message = "forged"}};
  world[1].cluster.Heard(stranger, Ended{epoch, ending});
  world[0].cluster.Heard(stranger, Report{epoch, ending, {}});
  world[0].cluster.Heard(stranger, Gone{epoch});
  world[1].cluster.Heard(stranger, Settled{epoch, 1, true});
  world[1].cluster.Heard(stranger, SendReady{.epoch_id = epoch, .place = {1, true, 0, 1}});
  // A member that is not the coordinator; a member that speaks for another's rank.
  world[0].cluster.Heard(world.network.InfoOf(1), Ended{epoch, ending});
  world[0].cluster.Heard(world.network.InfoOf(1),
                         SendReady{.epoch_id = epoch, .place = {1, true, 0, 1}});
  world.Advance(absl::Seconds(1));
  CHECK(world[0].endings.empty());
  CHECK(world[1].endings.empty());
  CHECK(world[1].settled.empty());
  CHECK(world[0].sends.empty());
  CHECK(world[1].sends.empty());
  CHECK(world[0].cluster.coordinated() == 1);
}

}  // namespace
}  // namespace tutti
