#include "daemon/transport/ring_lanes.h"

#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/transport/testing/ring_peer.h"

namespace tutti {
namespace {

TEST_CASE("works go in, are matched, and completions come out") {
  RingWorld world;
  const auto peers = FormRingGroup(&world, 2);
  peers[0]->client.Fill(0, 1);
  peers[1]->client.Fill(0, 2);
  peers[0]->Submit(peers[0]->Allreduce("dp"));
  world.Settle();
  CHECK_FALSE(peers[0]->Take().has_value());
  peers[1]->Submit(peers[1]->Allreduce("dp"));
  world.Settle();
  for (const auto& peer : peers) {
    const auto completion = peer->Take();
    REQUIRE(completion.has_value());
    CHECK(completion->first.serial == 1);
    CHECK(completion->first.number == 1);
    CHECK(completion->first.failure == 0);
    CHECK(peer->client.AllEqual(0, 3));
    CHECK_FALSE(peer->Take().has_value());
  }
}

TEST_CASE("the queues go round and round") {
  RingWorld world;
  const auto peers = FormRingGroup(&world, 1);
  for (uint64_t i = 1; i <= 10 * RingPeer::kEntries; ++i) {
    peers[0]->Submit(peers[0]->Allreduce("dp"));
    world.Settle();
    const auto completion = peers[0]->Take();
    REQUIRE(completion.has_value());
    CHECK(completion->first.serial == i);
    CHECK(completion->first.number == i);
  }
}

TEST_CASE("who takes its completions may submit for ever, however few works may be in flight") {
  Limits limits = RingWorld::WithRoom(TestLimits());
  limits.works_in_flight_max = 2;
  RingWorld world(limits);
  const auto peers = FormRingGroup(&world, 1);
  for (int i = 0; i < 100; ++i) {
    peers[0]->Submit(peers[0]->Allreduce("dp"));
    peers[0]->Submit(peers[0]->Allreduce("dp"));
    world.Settle();
    REQUIRE(peers[0]->Take().has_value());
    REQUIRE(peers[0]->Take().has_value());
  }
  CHECK(world.ended.empty());
}

TEST_CASE("a session on the ring says so") {
  RingWorld world;
  const auto peers = FormRingGroup(&world, 1);
  world.test.Advance(kSnapshotPeriod);
  CHECK(world.test.core->snapshot()->sessions[0].lane == "ring");
}

TEST_CASE("many tensors go by a table, and as one work") {
  RingWorld world;
  const auto peers = FormRingGroup(&world, 1);
  RingPeer& peer = *peers[0];
  std::vector<RingSpan> table;
  for (const size_t tensor : {0, 1, 2, 0, 1, 2}) {
    const Span span = peer.client.SpanOf(tensor);
    table.push_back({span.arena, span.offset, span.length});
  }
  std::memcpy(peer.client.Tensor(60), table.data(), table.size() * sizeof(RingSpan));
  SubmissionEntry entry = peer.Allreduce("dp");
  entry.inputs = entry.outputs = 3;
  entry.spans[0] = {peer.client.arena, 60 * TestClient::kTensorBytes,
                    table.size() * sizeof(RingSpan)};
  peer.Submit(entry);
  world.Settle();
  const auto completion = peer.Take();
  REQUIRE(completion.has_value());
  CHECK(completion->second.empty());
  REQUIRE(world.test.script.ran.size() == 1);
  CHECK(world.test.script.ran[0].participants[0].inputs.size() == 3);
  CHECK(world.test.script.ran[0].participants[0].outputs.size() == 3);
}

TEST_CASE("a quiet lane sleeps, and is woken by its doorbell") {
  RingWorld world;
  const auto peers = FormRingGroup(&world, 1);
  RingPeer& peer = *peers[0];
  CHECK(world.rings.busy() == 1);
  CHECK_FALSE(peer.Submit(peer.Allreduce("dp")));
  world.Settle();
  CHECK(peer.Take().has_value());
  world.LetAllSleep();
  CHECK_FALSE(world.rings.Poll(world.NowNs()));
  CHECK(peer.Submit(peer.Allreduce("dp")));
  world.Settle();
  CHECK(peer.Take().has_value());
  CHECK(world.rings.busy() == 1);
}

TEST_CASE("a loop may sleep once all lanes do, however short they have been quiet") {
  RingWorld world;
  const auto peers = FormRingGroup(&world, 2);
  peers[0]->Submit(peers[0]->Allreduce("dp"));
  CHECK_FALSE(world.rings.MaySleep());
  CHECK(world.rings.busy() == 1);
  world.Settle();
  CHECK(world.rings.MaySleep());
  CHECK(world.rings.busy() == 0);
  CHECK(peers[0]->Submit(peers[0]->Allreduce("dp")));
}

TEST_CASE("what is told is rung for if the client sleeps, and only then") {
  RingWorld world;
  const auto peers = FormRingGroup(&world, 1);
  RingPeer& peer = *peers[0];
  peer.Submit(peer.Allreduce("dp"));
  world.Settle();
  CHECK(peer.Take().has_value());
  char ring = 0;
  CHECK(recv(peer.doorbell.get(), &ring, 1, MSG_DONTWAIT) == -1);
  CHECK(peer.completions->MaySleep());
  peer.Submit(peer.Allreduce("dp"));
  world.Settle();
  CHECK(recv(peer.doorbell.get(), &ring, 1, MSG_DONTWAIT) == 1);
}

TEST_CASE("a client that does not take its failures gets all of them, in order, once it does") {
  RingWorld world;
  const auto peers = FormRingGroup(&world, 1);
  RingPeer& peer = *peers[0];
  // More failures that differ than there are slots would need more works in flight than there may
  // be: the works are refused at once, and stay untaken.
  std::vector<std::string> told;
  const auto take_all = [&] {
    while (const auto completion = peer.Take()) {
      CHECK(completion->first.serial == told.size() + 1);
      told.push_back(completion->second);
    }
  };
  for (uint64_t i = 0; i < 2 * kRingFailureSlots; ++i) {
    SubmissionEntry entry = peer.Allreduce("dp");
    entry.spans[0].offset = 4096 + 4 * i;
    // The client breaks its word: it has at most kEntries works that it knows to be in flight.
    if (i == kRingFailureSlots) take_all();
    peer.Submit(entry);
    if (i % 3 == 0) world.LetAllSleep();
    world.Settle();
  }
  take_all();
  world.Settle();
  take_all();
  REQUIRE(told.size() == 2 * kRingFailureSlots);
  for (size_t i = 0; i < told.size(); ++i) {
    CHECK(told[i].find(absl::StrCat("bytes ", 4096 + 4 * i, " to")) != std::string::npos);
  }
  CHECK(world.ended.empty());
}

// Submits works that fail, each for another reason, until some failure waits for a slot.
void FillFailureSlots(RingWorld* world, RingPeer* peer) {
  for (uint64_t i = 0; i < kRingFailureSlots; ++i) {
    SubmissionEntry entry = peer->Allreduce("dp");
    entry.spans[0].offset = 4096 + 4 * i;
    peer->Submit(entry);
    world->Settle();
  }
}

TEST_CASE("the loop sleeps though a client takes none of its failures") {
  Limits limits = RingWorld::WithRoom(TestLimits());
  limits.works_in_flight_max = 64;
  RingWorld world(limits);
  const auto peers = FormRingGroup(&world, 1);
  RingPeer& peer = *peers[0];
  FillFailureSlots(&world, &peer);
  SubmissionEntry entry = peer.Allreduce("dp");
  entry.spans[0].offset = 8192;
  peer.Submit(entry);
  world.Settle();
  CHECK(world.rings.MaySleep());
  SECTION("and is woken when the client takes one") {
    CHECK(peer.Take().has_value());
    world.Settle();
    for (uint64_t i = 0; i < kRingFailureSlots; ++i) CHECK(peer.Take().has_value());
    CHECK_FALSE(peer.Take().has_value());
  }
}

TEST_CASE("a client that sleeps is rung for what the loop tells it on its way to sleep") {
  Limits limits = RingWorld::WithRoom(TestLimits());
  limits.works_in_flight_max = 64;
  RingWorld world(limits);
  const auto peers = FormRingGroup(&world, 1);
  RingPeer& peer = *peers[0];
  FillFailureSlots(&world, &peer);
  SubmissionEntry entry = peer.Allreduce("dp");
  entry.spans[0].offset = 8192;
  peer.Submit(entry);
  world.Settle();
  // The daemon is awake, so the client does not ring for what it takes.
  for (uint64_t i = 0; i < kRingFailureSlots; ++i) CHECK(peer.Take().has_value());
  CHECK(peer.completions->MaySleep());
  CHECK(world.rings.MaySleep());
  char ring = 0;
  CHECK(recv(peer.doorbell.get(), &ring, 1, MSG_DONTWAIT) == 1);
  CHECK(peer.Take().has_value());
}

TEST_CASE("what a dying client had submitted counts") {
  RingWorld world;
  const auto peers = FormRingGroup(&world, 2);
  peers[1]->Submit(peers[1]->Allreduce("dp"));
  world.Settle();
  peers[0]->Submit(peers[0]->Allreduce("dp"));
  world.rings.TakeRest(peers[0]->client.session);
  world.test.core->CloseSession(peers[0]->client.session, SessionEnd::kHungUp);
  world.Settle();
  const auto completion = peers[1]->Take();
  REQUIRE(completion.has_value());
  CHECK(completion->second.empty());
  CHECK(world.rings.count() == 1);
}

TEST_CASE("a ring that takes the place of another, or of a stream, goes on where that was") {
  RingWorld world;
  const auto peers = FormRingGroup(&world, 1);
  RingPeer& peer = *peers[0];
  for (int i = 0; i < 3; ++i) peer.Submit(peer.Allreduce("dp"));
  world.Settle();
  CHECK(peer.Take()->first.serial == 1);
  // A new region in the same place, and the client has seen one completion.
  std::memset(peer.memory.data(), 0, peer.memory.size_bytes());
  *peer.header() = MakeRingHeader(RingPeer::kEntries);
  auto made = peer.TryCreate(0, 1);
  REQUIRE(made.ok());
  CHECK(made->last_received == 3);
  CHECK(world.rings.count() == 1);
  peer.completions.emplace(peer.region().completions());
  CHECK(peer.Take()->first.serial == 2);
  CHECK(peer.Take()->first.serial == 3);
  CHECK_FALSE(peer.Take().has_value());
  // Another lane takes over; its session lives on without a ring.
  REQUIRE(world.test.core->Attach(peer.client.session, &peer.client, 3).ok());
  CHECK(world.rings.count() == 0);
  world.Settle();
  CHECK(world.ended.empty());
}

TEST_CASE("what is no ring is refused, and harms nothing") {
  RingWorld world;
  RingPeer peer(&world);
  const auto refusal = [&](auto change, uint64_t offset = 0) {
    *peer.header() = MakeRingHeader(RingPeer::kEntries);
    change();
    const auto made = peer.TryCreate(offset);
    REQUIRE_FALSE(made.ok());
    CHECK(made.failure().cause == Cause::kInvalid);
    return made.failure().message;
  };
  const auto nothing = [] {};
  CHECK(refusal(nothing, 64) == "a ring at offset 64; it begins at a multiple of 4096");
  CHECK(refusal([&] { peer.header()->magic = 1; }) ==
        "the region does not begin with the header of a ring");
  CHECK(refusal([&] { peer.header()->entries = 12; }).find("a ring of 12 entries") == 0);
  // Larger than its arena.
  CHECK(refusal([&] { peer.header()->entries = kRingEntriesMax; }).find("do not lie in arena") !=
        std::string::npos);
  CHECK(refusal(nothing, uint64_t{1} << 40).find("do not lie in arena") != std::string::npos);
  *peer.header() = MakeRingHeader(RingPeer::kEntries);
  const auto acknowledged = peer.TryCreate(0, 7);
  REQUIRE_FALSE(acknowledged.ok());
  CHECK(acknowledged.failure().cause == Cause::kProtocol);
  peer.arena = 99;
  CHECK(peer.TryCreate().failure().message == "this session has no arena 99");
  CHECK(world.watcher.count() == 0);
  CHECK(world.rings.count() == 0);
  peer.arena = 2;
  peer.Create();
}

// A second session, which must not notice what the first does.
struct Bystander {
  explicit Bystander(RingWorld* with) : world(with), peer(with) {
    peer.client.Join("other", 0, 1);
    peer.Create();
  }
  void MustWork() {
    peer.Submit(peer.Allreduce("other"));
    world->Settle();
    const auto completion = peer.Take();
    REQUIRE(completion.has_value());
    CHECK(completion->second.empty());
  }
  RingWorld* const world;
  RingPeer peer;
};

TEST_CASE("who breaks the protocol ends its own session, and no other") {
  RingWorld world;
  Bystander bystander(&world);
  const auto peers = FormRingGroup(&world, 1);
  RingPeer& bad = *peers[0];
  std::string expected;
  SECTION("a tail beyond what fits") {
    *bad.Index(kRingSubmissionTail) = RingPeer::kEntries + 1;
    expected = "the tail of the ring's submission queue is ahead of what fits into it";
  }
  SECTION("a tail that goes back") {
    bad.Submit(bad.Allreduce("dp"));
    world.Settle();
    *bad.Index(kRingSubmissionTail) = 0;
    expected = "the tail of the ring's submission queue is ahead of what fits into it";
  }
  SECTION("a gap in the numbers") {
    bad.last_number = 1;
    bad.Submit(bad.Allreduce("dp"));
    expected = "work 2 follows work 0: numbers must have no gap; is another thread submitting?";
  }
  SECTION("completions that it never takes") {
    for (uint64_t i = 0; i < RingPeer::kEntries + 1; ++i) {
      bad.Submit(bad.Allreduce("dp"));
      world.Settle();
    }
    expected =
        "more works in flight than the ring's 16 entries, or a completion queue that was written "
        "to";
  }
  SECTION("a completion head beyond the tail") {
    *bad.Index(kRingCompletionHead) = 1000;
    for (uint64_t i = 0; i < 100 && world.ended.empty(); ++i) {
      bad.Submit(bad.Allreduce("dp"));
      world.Settle();
      bad.completions->Advance();
      *bad.Index(kRingCompletionHead) = 1000;
    }
    expected = "the head of the ring's completion queue is ahead of its tail, or has gone back";
  }
  SECTION("a completion head that goes back") {
    for (uint64_t i = 0; i < 2 * RingPeer::kEntries; ++i) {
      bad.Submit(bad.Allreduce("dp"));
      world.Settle();
      if (i < RingPeer::kEntries + 8) CHECK(bad.Take().has_value());
      if (i == RingPeer::kEntries + 8) *bad.Index(kRingCompletionHead) = RingPeer::kEntries - 1;
    }
    expected =
        "more works in flight than the ring's 16 entries, or a completion queue that was written "
        "to";
  }
  SECTION("a table of another size than its spans") {
    SubmissionEntry entry = bad.Allreduce("dp");
    entry.inputs = 2;
    bad.Submit(entry);
    expected = "work 1 has a table of 64 bytes for 3 spans";
  }
  SECTION("a table that is not in its arena") {
    SubmissionEntry entry = bad.Allreduce("dp");
    entry.inputs = entry.outputs = 1000;
    entry.spans[0].length = 2000 * sizeof(RingSpan);
    bad.Submit(entry);
    expected =
        "the table of spans of work 1: bytes 0 to 0 + 48000 do not lie in arena 1 of 4096 bytes";
  }
  world.Settle();
  REQUIRE(world.ended.size() == 1);
  CHECK(world.ended[0].first == bad.client.session);
  CHECK(world.ended[0].second.cause == Cause::kProtocol);
  CHECK(world.ended[0].second.message == expected);
  CHECK(world.rings.count() == 1);
  bystander.MustWork();
}

TEST_CASE("who claims to have taken fewer completions than none ends its own session") {
  Limits limits = RingWorld::WithRoom(TestLimits());
  limits.works_in_flight_max = 2;
  RingWorld world(limits);
  Bystander bystander(&world);
  const auto peers = FormRingGroup(&world, 1);
  *peers[0]->Index(kRingCompletionHead) = ~uint64_t{0};
  for (int i = 0; i < 4; ++i) {
    peers[0]->Submit(peers[0]->Allreduce("dp"));
    world.Settle();
  }
  REQUIRE(world.ended.size() == 1);
  CHECK(world.ended[0].first == peers[0]->client.session);
  bystander.MustWork();
}

TEST_CASE("what a client may do is its own affair") {
  RingWorld world;
  Bystander bystander(&world);
  const auto peers = FormRingGroup(&world, 1);
  RingPeer& odd = *peers[0];
  SECTION("it hangs up its doorbell") {
    odd.doorbell.Reset();
    world.Settle();
    // Its session's end is the session socket's to tell.
    CHECK(world.rings.count() == 2);
  }
  SECTION("it floods its doorbell") {
    for (int i = 0; i < 100000; ++i) RingDoorbell(odd.doorbell.get());
    world.Settle();
  }
  SECTION("it releases the arena that its ring is in") {
    world.test.core->ReleaseArena(odd.client.session, odd.arena, [](const auto&) {});
    odd.Submit(odd.Allreduce("dp"));
    world.Settle();
    CHECK(odd.Take().has_value());
  }
  SECTION("it writes over what is the daemon's") {
    *odd.Index(kRingSubmissionHead) = 77;
    *odd.Index(kRingCompletionTail) = 77;
    *odd.Index(kRingDaemonSleeps) = 77;
    std::memset(odd.region().failure_slot(0), 0xff, kRingFailureBytes);
    odd.header()->entries = 3;
    world.Settle();
  }
  SECTION("its tensors are its ring") {
    SubmissionEntry entry = odd.Allreduce("dp");
    entry.spans[0] = entry.spans[1] = {odd.arena, 0, RingBytes(RingPeer::kEntries)};
    odd.Submit(entry);
    world.Settle();
  }
  SECTION("it names kinds and types that there are not") {
    SubmissionEntry entry = odd.Allreduce("dp");
    entry.kind = entry.dtype = entry.op = 200;
    odd.Submit(entry);
    world.Settle();
    CHECK(odd.Take()->second.find("unknown kind of operation") != std::string::npos);
  }
  SECTION("it has more tensors than a work may have") {
    SubmissionEntry entry = odd.Allreduce("dp");
    entry.inputs = entry.outputs = 4'000'000'000;
    odd.Submit(entry);
    world.Settle();
    CHECK(odd.Take()->second.find("1024") != std::string::npos);
  }
  bystander.MustWork();
  CHECK(world.ended.empty());
}

}  // namespace
}  // namespace tutti
