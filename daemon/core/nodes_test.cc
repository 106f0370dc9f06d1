// Groups over several nodes, as their ranks see them: cores on a virtual network and a fake mesh.
#include <catch2/catch.hpp>

#include "base/failpoint.h"
#include "daemon/core/testing/nodes_fixture.h"
#include "shm/arena.h"

namespace tutti {
namespace {

using Catch::Contains;
using Clients = std::vector<std::unique_ptr<TestClient>>;

bool AllDone(const Clients& clients, WorkNumber number) {
  for (const auto& client : clients) {
    if (!client->Done(number)) return false;
  }
  return true;
}

TEST_CASE("ranks of several nodes reduce together, again and again") {
  TestNodes world(2);
  const Clients clients = world.FormGroup(4);
  for (int round = 1; round <= 20; ++round) {
    WorkNumber number = 0;
    for (size_t i = 0; i < 4; ++i) {
      clients[i]->Fill(0, static_cast<float>(i + 1));
      number = clients[i]->Submit(clients[i]->Allreduce("dp"));
    }
    REQUIRE(world.Until([&] { return AllDone(clients, number); }));
    for (const auto& client : clients) {
      CHECK(client->Ok(number));
      CHECK(client->AllEqual(0, 10));
    }
  }
}

TEST_CASE("nodes that disagree are told both sides, nothing is written, the group goes on") {
  TestNodes world(2);
  const Clients clients = world.FormGroup(4);
  WorkNumber number = 0;
  for (size_t i = 0; i < 4; ++i) {
    clients[i]->Fill(0, 1);
    WorkRequest request = clients[i]->Allreduce("dp");
    // Ranks 1 and 3 are on the other node.
    if (i % 2 == 1) request.op = ReduceOp::kMax;
    number = clients[i]->Submit(request);
  }
  REQUIRE(world.Until([&] { return AllDone(clients, number); }));
  for (const auto& client : clients) {
    REQUIRE_FALSE(client->Ok(number));
    CHECK(client->FailureOf(number) == clients[0]->FailureOf(number));
    CHECK(client->AllEqual(0, 1));
  }
  CHECK(clients[0]->FailureOf(number).cause == Cause::kMismatch);
  CHECK(clients[0]->FailureOf(number).sequence == 1);
  CHECK_THAT(clients[0]->FailureOf(number).message,
             Contains("ranks disagree on reduce op (ranks 0, 2: allreduce sum of 16 float32; ranks "
                      "1, 3: allreduce max of 16 float32)"));
  for (const auto& client : clients) number = client->Submit(client->Barrier("dp"));
  REQUIRE(world.Until([&] { return AllDone(clients, number); }));
  CHECK(clients[3]->Ok(number));
}

TEST_CASE("the check of nodes that disagree sees it when their words are not compared") {
  if (!kFailpointsBuiltIn) return;
  TestNodes world(2);
  const Clients clients = world.FormGroup(2);
  SetFailpoint("agree.skip_signature", FailpointAction::kMutate, 1);
  WorkNumber number = 0;
  for (size_t i = 0; i < 2; ++i) {
    WorkRequest request = clients[i]->Allreduce("dp");
    if (i == 1) request.op = ReduceOp::kMax;
    number = clients[i]->Submit(request);
  }
  CHECK(world.Until([&] { return AllDone(clients, number); }));
  CHECK(clients[0]->Ok(number));
  SetFailpoint("agree.skip_signature", FailpointAction::kOff, 1);
}

TEST_CASE("what one node refuses fails on all") {
  TestNodes world(2);
  const Clients clients = world.FormGroup(3);
  WorkNumber number = 0;
  for (size_t i = 0; i < 3; ++i) {
    WorkRequest request = clients[i]->Allreduce("dp");
    if (i == 2) request.outputs[0].offset = 1 << 30;
    number = clients[i]->Submit(request);
  }
  REQUIRE(world.Until([&] { return AllDone(clients, number); }));
  for (const auto& client : clients) {
    CHECK(client->FailureOf(number).cause == Cause::kInvalid);
    CHECK(client->FailureOf(number).culprits == std::vector<Rank>{2});
  }
}

TEST_CASE("a rank that dies is named on all nodes, and the name is free for a new group") {
  TestNodes world(2);
  Clients clients = world.FormGroup(4);
  WorkNumber number = 0;
  for (size_t i = 0; i < 3; ++i) number = clients[i]->Submit(clients[i]->Allreduce("dp"));
  world.Advance(absl::Milliseconds(5));
  const size_t victim = 3;
  clients[victim]->Die();
  clients.pop_back();
  REQUIRE(world.Until([&] { return AllDone(clients, number); }));
  for (const auto& client : clients) {
    CHECK(client->FailureOf(number) == clients[0]->FailureOf(number));
    CHECK(client->FailureOf(number).cause == Cause::kRankDied);
    CHECK(client->FailureOf(number).culprits == std::vector<Rank>{3});
  }
  const Clients again = world.FormGroup(4);
  for (const auto& client : again) number = client->Submit(client->Barrier("dp"));
  REQUIRE(world.Until([&] { return AllDone(again, number); }));
  CHECK(again[0]->Ok(number));
}

TEST_CASE("a node that dies is named to the ranks of the others") {
  TestNodes world(3);
  Clients clients = world.FormGroup(3);
  WorkNumber number = 0;
  for (size_t i = 0; i < 2; ++i) number = clients[i]->Submit(clients[i]->Allreduce("dp"));
  world.Advance(absl::Milliseconds(5));
  clients.pop_back();
  world.Kill(2);
  REQUIRE(world.Until([&] { return AllDone(clients, number); }));
  for (const auto& client : clients) {
    CHECK(client->FailureOf(number).cause == Cause::kNodeLost);
    CHECK(client->FailureOf(number).culprits == std::vector<Rank>{2});
    CHECK_THAT(client->FailureOf(number).message, Contains("node c"));
  }
}

TEST_CASE("a deadline names who has not come, on whichever node") {
  TestNodes world(2);
  const Clients clients = world.FormGroup(4);
  WorkNumber number = 0;
  for (const size_t i : {0, 1}) {
    WorkRequest request = clients[i]->Allreduce("dp");
    request.timeout = absl::Milliseconds(100);
    number = clients[i]->Submit(request);
  }
  REQUIRE(world.Until([&] { return clients[0]->Done(number) && clients[1]->Done(number); }));
  for (const size_t i : {0, 1}) {
    const Failure& failure = clients[i]->FailureOf(number);
    CHECK(failure.cause == Cause::kDeadline);
    CHECK(failure.missing == std::vector<Rank>{2, 3});
    CHECK_THAT(failure.message, Contains("allreduce #1 on \"dp\" (epoch 1): deadline passed") &&
                                    Contains("rank 3 (pid 103) is idle") && Contains("on node b"));
  }
}

TEST_CASE("a node whose ranks have all come is waited for by name as well") {
  TestNodes world(2);
  const Clients clients = world.FormGroup(2);
  WorkRequest request = clients[0]->Allreduce("dp");
  request.timeout = absl::Milliseconds(100);
  const WorkNumber number = clients[0]->Submit(request);
  REQUIRE(world.Until([&] { return clients[0]->Done(number); }));
  CHECK(clients[0]->FailureOf(number).missing == std::vector<Rank>{1});
}

TEST_CASE("who leaves has its submitted works completed, on all nodes; later ones name it") {
  TestNodes world(2);
  Clients clients = world.FormGroup(4);
  for (const auto& client : clients) client->Fill(0, 1);
  const WorkNumber first = clients[3]->Submit(clients[3]->Allreduce("dp"));
  world[1]->core->Leave(clients[3]->session, clients[3]->MemberOf("dp"), first,
                        [](std::optional<Failure>) {});
  world.Advance(absl::Milliseconds(5));
  for (size_t i = 0; i < 3; ++i) clients[i]->Submit(clients[i]->Allreduce("dp"));
  REQUIRE(world.Until([&] { return AllDone(clients, first); }));
  for (const auto& client : clients) CHECK(client->AllEqual(0, 4));
  WorkNumber next = 0;
  for (size_t i = 0; i < 3; ++i) next = clients[i]->Submit(clients[i]->Allreduce("dp", 1));
  clients.pop_back();
  REQUIRE(world.Until([&] { return AllDone(clients, next); }));
  for (const auto& client : clients) {
    CHECK(client->FailureOf(next).cause == Cause::kRankLeft);
    CHECK(client->FailureOf(next).culprits == std::vector<Rank>{3});
  }
  // All leave; the name can be joined again at once.
  for (size_t i = 0; i < 3; ++i) {
    world[i % 2]->core->Leave(clients[i]->session, clients[i]->MemberOf("dp"), 0,
                              [](std::optional<Failure>) {});
  }
  const Clients again = world.FormGroup(4);
  for (const auto& client : again) next = client->Submit(client->Barrier("dp"));
  REQUIRE(world.Until([&] { return AllDone(again, next); }));
  CHECK(again[0]->Ok(next));
}

TEST_CASE("who waits in an operation that a leaver will not join is told, on all nodes") {
  TestNodes world(2);
  Clients clients = world.FormGroup(4);
  // Rank 0's node is complete with rank 2, and waits in the exchange; rank 1 waits for rank 3.
  WorkNumber number = 0;
  for (size_t i = 0; i < 3; ++i) number = clients[i]->Submit(clients[i]->Allreduce("dp"));
  world.Advance(absl::Milliseconds(5));
  world[1]->core->Leave(clients[3]->session, clients[3]->MemberOf("dp"), 0,
                        [](std::optional<Failure>) {});
  clients.pop_back();
  REQUIRE(world.Until([&] { return AllDone(clients, number); }));
  for (const auto& client : clients) {
    CHECK(client->FailureOf(number).cause == Cause::kRankLeft);
    CHECK(client->FailureOf(number).culprits == std::vector<Rank>{3});
  }
}

TEST_CASE("an agree has one result everywhere, which the coordinator has settled") {
  TestNodes world(2);
  const Clients clients = world.FormGroup(3);
  for (const bool last : {true, false}) {
    WorkNumber number = 0;
    for (size_t i = 0; i < 3; ++i) {
      auto* const flag = reinterpret_cast<uint8_t*>(clients[i]->Tensor(0));
      *flag = i < 2 || last ? 1 : 0;
      const Span span{.arena = clients[i]->arena, .offset = 0, .length = 1};
      number = clients[i]->Submit({.membership = clients[i]->MemberOf("dp"),
                                   .kind = CollectiveKind::kAgree,
                                   .dtype = DataType::kBool,
                                   .inputs = {span},
                                   .outputs = {span}});
    }
    REQUIRE(world.Until([&] { return AllDone(clients, number); }));
    for (const auto& client : clients) {
      CHECK(client->Ok(number));
      CHECK(*reinterpret_cast<uint8_t*>(client->Tensor(0)) == (last ? 1 : 0));
    }
  }
}

Limits LargeLimits() {
  Limits limits = TestLimits();
  limits.arena_bytes_max = limits.arena_bytes_per_session_max = 4 << 20;
  return limits;
}

TEST_CASE("small sends complete at once and arrive in order, whether awaited or not") {
  TestNodes world(2);
  const Clients clients = world.FormGroup(2);
  WorkNumber sent = 0;
  for (int i = 1; i <= 3; ++i) {
    clients[0]->Fill(0, static_cast<float>(i));
    sent = clients[0]->Submit(clients[0]->Send("dp", 1, 0));
    REQUIRE(clients[0]->Ok(sent));
  }
  WorkNumber received = 0;
  for (size_t i = 1; i <= 3; ++i) received = clients[1]->Submit(clients[1]->Recv("dp", 0, i));
  REQUIRE(world.Until([&] { return clients[1]->Done(received); }));
  for (size_t i = 1; i <= 3; ++i) CHECK(clients[1]->AllEqual(i, static_cast<float>(i)));
}

TEST_CASE("large transfers wait for each other, in both directions, beside collectives") {
  TestNodes world(2, LargeLimits());
  const Clients clients = world.FormGroup(2);
  const size_t bytes = kEagerSendBytesMax + 4;
  for (const auto& client : clients) {
    const Result<ArenaOffer> offer = client->world->core->CreateArena(client->session, 1 << 20);
    REQUIRE(offer.ok());
    client->arena = offer->arena;
    client->memory = *PopulateArena(offer->fd, 1 << 20);
    bool mapped = false;
    client->world->core->ArenaMapped(client->session, client->arena,
                                     [&](std::optional<Failure> failure) { mapped = !failure; });
    REQUIRE(world.Until([&] { return mapped; }));
    client->Tensor(0)[0] = static_cast<float>(client->session + 10 * client->MemberOf("dp"));
  }
  clients[0]->Tensor(0)[0] = 7;
  clients[1]->Tensor(0)[0] = 8;
  const auto span = [&](const TestClient& client, size_t place) {
    return Span{.arena = client.arena, .offset = place * (128 << 10), .length = bytes};
  };
  WorkNumber last = 0;
  for (size_t i = 0; i < 2; ++i) {
    WorkRequest send = clients[i]->Send("dp", static_cast<Rank>(1 - i));
    send.inputs = {span(*clients[i], 0)};
    clients[i]->Submit(send);
    clients[i]->Submit(clients[i]->Barrier("dp"));
    WorkRequest recv = clients[i]->Recv("dp", static_cast<Rank>(1 - i));
    recv.outputs = {span(*clients[i], 1)};
    last = clients[i]->Submit(recv);
  }
  REQUIRE(world.Until([&] { return AllDone(clients, last) && AllDone(clients, last - 2); }));
  CHECK(clients[0]->Ok(last));
  CHECK(clients[0]->Ok(last - 1));
  CHECK(clients[0]->Ok(last - 2));
  CHECK(clients[0]->Tensor(0)[(128 << 10) / sizeof(float)] == 8);
  CHECK(clients[1]->Tensor(0)[(128 << 10) / sizeof(float)] == 7);
}

TEST_CASE("a transfer that does not fit is an error where somebody waits for it") {
  TestNodes world(2);
  const Clients clients = world.FormGroup(2);
  clients[0]->Submit(clients[0]->Send("dp", 1, 0));
  WorkRequest recv = clients[1]->Recv("dp", 0, 1);
  recv.outputs[0].length /= 2;
  const WorkNumber number = clients[1]->Submit(recv);
  REQUIRE(world.Until([&] { return clients[1]->Done(number); }));
  CHECK(clients[1]->FailureOf(number).cause == Cause::kMismatch);
  clients[0]->Fill(0, 5);
  clients[0]->Submit(clients[0]->Send("dp", 1, 0));
  const WorkNumber next = clients[1]->Submit(clients[1]->Recv("dp", 0, 1));
  REQUIRE(world.Until([&] { return clients[1]->Done(next); }));
  CHECK(clients[1]->AllEqual(1, 5));
}

TEST_CASE("an unmatched recv is withdrawn at its deadline, and the group goes on") {
  TestNodes world(2);
  const Clients clients = world.FormGroup(2);
  WorkRequest recv = clients[1]->Recv("dp", 0, 1);
  recv.timeout = absl::Milliseconds(50);
  const WorkNumber number = clients[1]->Submit(recv);
  REQUIRE(world.Until([&] { return clients[1]->Done(number); }));
  CHECK(clients[1]->FailureOf(number).cause == Cause::kDeadline);
  clients[0]->Fill(0, 5);
  clients[0]->Submit(clients[0]->Send("dp", 1, 0));
  const WorkNumber next = clients[1]->Submit(clients[1]->Recv("dp", 0, 1));
  REQUIRE(world.Until([&] { return clients[1]->Done(next); }));
  CHECK(clients[1]->AllEqual(1, 5));
}

TEST_CASE("backends that serve one node say so to all joiners") {
  TestNodes world(2);
  Clients clients;
  for (Rank rank = 0; rank < 2; ++rank) {
    clients.push_back(std::make_unique<TestClient>(world[rank], 100 + rank));
    clients.back()->Join({.group = "dp", .rank = rank, .world_size = 2, .backend = "fake"});
  }
  REQUIRE(
      world.Until([&] { return clients[0]->JoinFailure("dp") && clients[1]->JoinFailure("dp"); }));
  CHECK(clients[0]->JoinFailure("dp") == clients[1]->JoinFailure("dp"));
  CHECK(clients[0]->JoinFailure("dp")->cause == Cause::kUnsupported);
  CHECK_THAT(clients[0]->JoinFailure("dp")->message,
             Contains("its ranks are on 2 nodes, and backend \"fake\" serves 1 at most"));
}

TEST_CASE("arenas are mapped while a group that nobody waits for still connects") {
  TestNodes world(2);
  world[0]->mesh.Hold(true);
  TestClient first(world[0], 100);
  TestClient second(world[1], 101);
  first.Join("dp", 0, 2);
  second.Join("dp", 1, 2);
  REQUIRE(world.Until([&] { return world[0]->mesh.holds_somebody(); }));
  first.Die();
  world.Advance(absl::Seconds(1));
  // Made with an arena, for which it waits.
  TestClient other(world[0], 102);
  CHECK(other.Tensor(0) != nullptr);
  CHECK(world[0]->mesh.holds_somebody());
}

}  // namespace
}  // namespace tutti
