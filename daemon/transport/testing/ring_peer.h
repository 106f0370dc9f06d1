// Ring lanes over real memory and real doorbells, with the core stepped by hand, and clients that a
// test plays: good ones and bad ones.
#pragma once

#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/core/testing/core_fixture.h"
#include "daemon/transport/ring_lanes.h"
#include "daemon/transport/testing/manual_watcher.h"
#include "shm/arena.h"
#include "shm/doorbell.h"
#include "shm/ring_region.h"

namespace tutti {

// The daemon's side.
struct RingWorld {
  explicit RingWorld(Limits limits = WithRoom(TestLimits()))
      : test(limits), works_in_flight_max(limits.works_in_flight_max) {}

  static Limits WithRoom(Limits limits) {
    limits.arena_bytes_max = 64 << 20;
    limits.arena_bytes_per_session_max = 16 << 20;
    return limits;
  }

  // Lets all happen that can happen without time passing, as the control loop would.
  void Settle() {
    for (int i = 0; i < 8; ++i) {
      watcher.Turn();
      rings.Poll(NowNs());
      test.Settle();
    }
  }
  // Time passes in which no lane has anything to do: those that are quiet go to sleep.
  void LetAllSleep() {
    while (rings.busy() > 0) {
      test.Advance(absl::Microseconds(1));
      Settle();
    }
  }
  uint64_t NowNs() const { return static_cast<uint64_t>(absl::ToUnixNanos(test.clock.Now())); }

  TestCore test;
  uint64_t works_in_flight_max;
  ManualWatcher watcher;
  // Sessions whose lane broke the protocol, and why.
  std::vector<std::pair<SessionId, Failure>> ended;
  RingLanes rings{{.core = test.core.get(),
                   .watcher = &watcher,
                   .loop = &test.loop,
                   .clock = &test.clock,
                   .works_in_flight_max = works_in_flight_max,
                   .spin_us = 5,
                   .end_session = [this](SessionId session, const Failure& failure) {
                     ended.emplace_back(session, failure);
                     test.core->CloseSession(session, SessionEnd::kProtocolError);
                   }}};
};

// One client: a session with tensors, and a second arena for its ring.
class RingPeer {
 public:
  static constexpr uint32_t kEntries = 16;

  explicit RingPeer(RingWorld* world, uint32_t pid = 0) : client(&world->test, pid), world_(world) {
    const size_t bytes = (RingBytes(kEntries) + 4095) / 4096 * 4096;
    const auto offer = world->test.core->CreateArena(client.session, bytes);
    REQUIRE(offer.ok());
    arena = offer->arena;
    auto mapped = PopulateArena(offer->fd, bytes);
    REQUIRE(mapped.ok());
    memory = *std::move(mapped);
    world->test.core->ArenaMapped(client.session, arena,
                                  [](const auto& failure) { CHECK_FALSE(failure.has_value()); });
    world->test.Settle();
    *header() = MakeRingHeader(kEntries);
  }

  RingHeader* header() { return reinterpret_cast<RingHeader*>(memory.data()); }
  RingRegion region() { return {memory.data(), kEntries}; }
  uint64_t* Index(size_t offset) { return reinterpret_cast<uint64_t*>(memory.data() + offset); }

  Result<RingLanes::Made> TryCreate(uint64_t offset = 0, uint64_t acknowledged = 0) {
    v1::CreateRing request;
    request.set_arena(arena);
    request.set_offset(offset);
    request.set_acknowledged(acknowledged);
    return world_->rings.Create(client.session, request);
  }
  void Create() {
    auto made = TryCreate();
    REQUIRE(made.ok());
    doorbell = std::move(made->doorbell);
    works.emplace(region().submissions());
    completions.emplace(region().completions());
  }

  // An allreduce in place of tensor `tensor`.
  SubmissionEntry Allreduce(const std::string& group, size_t tensor = 0) const {
    const Span span = client.SpanOf(tensor);
    SubmissionEntry entry;
    entry.membership = client.MemberOf(group);
    entry.kind = static_cast<uint8_t>(CollectiveKind::kAllreduce);
    entry.dtype = static_cast<uint8_t>(DataType::kFloat32);
    entry.op = static_cast<uint8_t>(ReduceOp::kSum);
    entry.inputs = entry.outputs = 1;
    entry.spans[0] = entry.spans[1] = {span.arena, span.offset, span.length};
    return entry;
  }

  // Numbers and submits; returns whether the daemon had to be woken.
  bool Submit(SubmissionEntry entry) {
    entry.number = ++last_number;
    REQUIRE(works->TryPush(entry) == RingProducer<SubmissionEntry>::Push::kDone);
    const bool ring = works->MustRing();
    if (ring) RingDoorbell(doorbell.get());
    return ring;
  }

  // The next completion, with its failure's message ("" for success).
  std::optional<std::pair<CompletionEntry, std::string>> Take() {
    CompletionEntry entry;
    if (completions->TryPeek(&entry) != RingConsumer<CompletionEntry>::Pop::kDone) {
      return std::nullopt;
    }
    v1::Failure failure;
    if (entry.failure != 0) {
      REQUIRE(entry.failure <= kRingFailureSlots);
      REQUIRE(failure.ParseFromArray(region().failure_slot(entry.failure - 1),
                                     static_cast<int>(entry.failure_bytes)));
    }
    completions->Advance();
    if (entry.failure != 0 && works->MustRing()) RingDoorbell(doorbell.get());
    return std::pair(entry, failure.message());
  }

  TestClient client;
  ArenaId arena = 0;
  Mapping memory;
  UniqueFd doorbell;
  std::optional<RingProducer<SubmissionEntry>> works;
  std::optional<RingConsumer<CompletionEntry>> completions;
  uint64_t last_number = 0;

 private:
  RingWorld* const world_;
};

// Peers with rings that have formed group "dp".
inline std::vector<std::unique_ptr<RingPeer>> FormRingGroup(RingWorld* world, uint32_t size) {
  std::vector<std::unique_ptr<RingPeer>> peers;
  for (Rank rank = 0; rank < size; ++rank) {
    peers.push_back(std::make_unique<RingPeer>(world));
    peers.back()->client.Join("dp", rank, size);
  }
  for (const auto& peer : peers) peer->Create();
  return peers;
}

}  // namespace tutti
