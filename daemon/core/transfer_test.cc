// send and recv: small sends complete once they are copied, and everything that follows from that.
#include <catch2/catch.hpp>

#include "daemon/core/testing/core_fixture.h"
#include "shm/arena.h"

namespace tutti {
namespace {

using Clients = std::vector<std::unique_ptr<TestClient>>;

// 64 KiB + 4: one element too many to be copied.
Span LargeSpan(const TestClient& client) {
  return {.arena = client.arena, .offset = 0, .length = kEagerSendBytesMax + 4};
}

Limits LargeLimits() {
  Limits limits = TestLimits();
  limits.arena_bytes_max = limits.arena_bytes_per_session_max = 4 << 20;
  return limits;
}

TEST_CASE("a small send completes before it is received, and its tensor can be used again") {
  TestCore world;
  const Clients clients = FormGroup(&world, 2);
  clients[0]->Fill(0, 1);
  const WorkNumber first = clients[0]->Submit(clients[0]->Send("dp", 1, 0));
  world.Settle();
  REQUIRE(clients[0]->Ok(first));
  clients[0]->Fill(0, 2);
  const WorkNumber second = clients[0]->Submit(clients[0]->Send("dp", 1, 0));
  world.Settle();
  REQUIRE(clients[0]->Ok(second));
  clients[0]->Fill(0, 3);
  const WorkNumber a = clients[1]->Submit(clients[1]->Recv("dp", 0, 1));
  const WorkNumber b = clients[1]->Submit(clients[1]->Recv("dp", 0, 2));
  world.Settle();
  CHECK(clients[1]->Ok(a));
  CHECK(clients[1]->Ok(b));
  CHECK(clients[1]->AllEqual(1, 1));
  CHECK(clients[1]->AllEqual(2, 2));
}

TEST_CASE("a send that is awaited already is not copied") {
  TestCore world;
  const Clients clients = FormGroup(&world, 2);
  clients[0]->Fill(0, 7);
  clients[1]->Submit(clients[1]->Recv("dp", 0, 1));
  clients[0]->Submit(clients[0]->Send("dp", 1, 0));
  world.Settle();
  REQUIRE(world.script.ran.size() == 1);
  CHECK(clients[1]->AllEqual(1, 7));
}

TEST_CASE("a large send completes when it is received") {
  TestCore world(LargeLimits());
  const Clients clients = FormGroup(&world, 2);
  const auto grow = [&](TestClient* client) {
    const Result<ArenaOffer> offer = world.core->CreateArena(client->session, 1 << 20);
    REQUIRE(offer.ok());
    client->arena = offer->arena;
    client->memory = *PopulateArena(offer->fd, 1 << 20);
    world.core->ArenaMapped(client->session, client->arena, [](std::optional<Failure>) {});
    world.Settle();
  };
  grow(clients[0].get());
  grow(clients[1].get());
  WorkRequest send = clients[0]->Send("dp", 1);
  send.inputs = {LargeSpan(*clients[0])};
  const WorkNumber number = clients[0]->Submit(send);
  world.Settle();
  CHECK_FALSE(clients[0]->Done(number));
  WorkRequest recv = clients[1]->Recv("dp", 0);
  recv.outputs = {LargeSpan(*clients[1])};
  clients[1]->Submit(recv);
  world.Settle();
  CHECK(clients[0]->Ok(number));
}

TEST_CASE("where there is no room for copies, sends complete when they are received") {
  TestCore world;
  const Clients clients = FormGroup(&world, 3);
  // 64 bytes and what a copy costs beside: three to a session, five to all.
  std::vector<WorkNumber> sends;
  for (size_t i = 0; i < 4; ++i) sends.push_back(clients[0]->Submit(clients[0]->Send("dp", 2, i)));
  for (size_t i = 0; i < 3; ++i) sends.push_back(clients[1]->Submit(clients[1]->Send("dp", 2, i)));
  world.Settle();
  const auto done = [&](size_t client, size_t i) { return clients[client]->Done(sends[i]); };
  CHECK((done(0, 0) && done(0, 1) && done(0, 2)));
  CHECK_FALSE(done(0, 3));
  CHECK((done(1, 4) && done(1, 5)));
  CHECK_FALSE(done(1, 6));
  // What is received makes room.
  for (size_t i = 0; i < 4; ++i) clients[2]->Submit(clients[2]->Recv("dp", 0, i));
  for (size_t i = 0; i < 3; ++i) clients[2]->Submit(clients[2]->Recv("dp", 1, 4 + i));
  world.Settle();
  CHECK((done(0, 3) && done(1, 6)));
  const WorkNumber again = clients[0]->Submit(clients[0]->Send("dp", 1, 0));
  world.Settle();
  CHECK(clients[0]->Ok(again));
}

TEST_CASE("a send that has completed has no deadline any more, and is no stall") {
  TestCore world;
  const Clients clients = FormGroup(&world, 2);
  clients[0]->Fill(0, 5);
  WorkRequest send = clients[0]->Send("dp", 1, 0);
  send.timeout = absl::Seconds(1);
  clients[0]->Submit(send);
  world.Advance(absl::Hours(1));
  CHECK(world.Group("dp")->state == GroupState::kReady);
  CHECK(world.Group("dp")->ranks[1].activity == RankActivity::kIdle);
  clients[1]->Submit(clients[1]->Recv("dp", 0, 1));
  world.Settle();
  CHECK(clients[1]->AllEqual(1, 5));
}

TEST_CASE("what was sent is received although its sender has left; not if it has died") {
  TestCore world;
  const Clients clients = FormGroup(&world, 2);
  clients[0]->Fill(0, 5);
  clients[0]->Submit(clients[0]->Send("dp", 1, 0));
  world.Settle();
  SECTION("left") {
    world.core->Leave(clients[0]->session, clients[0]->MemberOf("dp"), 0,
                      [](std::optional<Failure>) {});
    world.Settle();
    const WorkNumber recv = clients[1]->Submit(clients[1]->Recv("dp", 0, 1));
    world.Settle();
    CHECK(clients[1]->Ok(recv));
    CHECK(clients[1]->AllEqual(1, 5));
    const WorkNumber more = clients[1]->Submit(clients[1]->Recv("dp", 0, 1));
    world.Settle();
    CHECK(clients[1]->FailureOf(more).cause == Cause::kRankLeft);
  }
  SECTION("died") {
    clients[0]->Die();
    const WorkNumber recv = clients[1]->Submit(clients[1]->Recv("dp", 0, 1));
    world.Settle();
    CHECK(clients[1]->FailureOf(recv).cause == Cause::kRankDied);
  }
}

TEST_CASE("a recv that does not fit what was sent is told; the next pair is matched") {
  TestCore world;
  const Clients clients = FormGroup(&world, 2);
  clients[0]->Fill(0, 5);
  clients[0]->Submit(clients[0]->Send("dp", 1, 0));
  clients[0]->Submit(clients[0]->Send("dp", 1, 0));
  WorkRequest wrong = clients[1]->Recv("dp", 0, 1);
  wrong.dtype = DataType::kInt32;
  const WorkNumber mismatch = clients[1]->Submit(wrong);
  const WorkNumber fine = clients[1]->Submit(clients[1]->Recv("dp", 0, 1));
  world.Settle();
  CHECK(clients[1]->FailureOf(mismatch).cause == Cause::kMismatch);
  CHECK(clients[1]->Ok(fine));
  CHECK(clients[1]->AllEqual(1, 5));
}

TEST_CASE("a zero-element send completes, and is received") {
  TestCore world;
  const Clients clients = FormGroup(&world, 2);
  WorkRequest send = clients[0]->Send("dp", 1, 0);
  send.inputs[0] = {};
  WorkRequest recv = clients[1]->Recv("dp", 0, 0);
  recv.outputs[0] = {};
  const WorkNumber sent = clients[0]->Submit(send);
  world.Settle();
  CHECK(clients[0]->Ok(sent));
  const WorkNumber received = clients[1]->Submit(recv);
  world.Settle();
  CHECK(clients[1]->Ok(received));
}

}  // namespace
}  // namespace tutti
