// A client that writes anything anywhere into its ring, at any time. Under ASan and UBSan this is
// the proof that it can cost only its own session.
#include <catch2/catch.hpp>
#include <random>

#include "daemon/transport/testing/ring_peer.h"

namespace tutti {
namespace {

using Random = std::mt19937_64;

uint64_t Draw(Random* random, uint64_t below) { return (*random)() % below; }

// Small, huge, or near what is right.
uint64_t Odd(Random* random) {
  switch (Draw(random, 4)) {
    case 0:
      return Draw(random, 20);
    case 1:
      return (*random)();
    case 2:
      return ~uint64_t{0} - Draw(random, 20);
    default:
      return Draw(random, 200'000);
  }
}

SubmissionEntry OddEntry(Random* random, const RingPeer& peer) {
  SubmissionEntry entry = peer.Allreduce("dp", Draw(random, 64));
  for (uint64_t changes = Draw(random, 4); changes > 0; --changes) {
    auto* const bytes = reinterpret_cast<unsigned char*>(&entry);
    switch (Draw(random, 8)) {
      case 0:
        bytes[Draw(random, sizeof(entry))] = static_cast<unsigned char>(Draw(random, 256));
        break;
      case 1:
        entry.inputs = static_cast<uint32_t>(Odd(random));
        break;
      case 2:
        entry.outputs = static_cast<uint32_t>(Odd(random));
        break;
      case 3:
        entry.spans[Draw(random, 2)] = {Odd(random), Odd(random), Odd(random)};
        break;
      case 4:
        entry.spans[0].length = (uint64_t{entry.inputs} + entry.outputs) * sizeof(RingSpan);
        break;
      case 5:
        entry.spans[0] = entry.spans[1] = {peer.arena, 64 * Draw(random, 64), 64};
        break;
      case 6:
        entry.kind = static_cast<uint8_t>(Draw(random, 14));
        entry.op = static_cast<uint8_t>(Draw(random, 7));
        break;
      default:
        entry.timeout_ms = Odd(random);
        entry.root = static_cast<uint32_t>(Odd(random));
    }
  }
  return entry;
}

// Looks at nothing: it may be garbage.
void TakeAll(RingPeer* peer) {
  CompletionEntry entry;
  for (uint32_t i = 0; i < RingPeer::kEntries; ++i) {
    if (peer->completions->TryPop(&entry) != RingConsumer<CompletionEntry>::Pop::kDone) break;
    if (entry.failure != 0 && peer->works->MustRing()) RingDoorbell(peer->doorbell.get());
  }
}

void Misbehave(Random* random, RingPeer* peer) {
  auto* const words = reinterpret_cast<uint64_t*>(peer->memory.data());
  const size_t count = peer->memory.size_bytes() / sizeof(uint64_t);
  switch (Draw(random, 40)) {
    case 0:
      words[Draw(random, count)] = Odd(random);
      break;
    case 1:
      words[Draw(random, 64)] = Odd(random);
      break;
    case 2:
      *peer->Index(kRingSubmissionTail) += Draw(random, 20);
      break;
    case 3:
      *peer->Index(kRingCompletionHead) += Draw(random, 20) - Draw(random, 20);
      break;
    case 4:
      *peer->Index(kRingClientSleeps) = Odd(random);
      break;
    case 5:
      *peer->header() = MakeRingHeader(RingPeer::kEntries);
      if (auto made = peer->TryCreate(4096 * Draw(random, 2), Draw(random, 3)); made.ok()) {
        peer->doorbell = std::move(made->doorbell);
      }
      break;
    case 6:
    case 7:
      RingDoorbell(peer->doorbell.get());
      break;
    default:
      TakeAll(peer);
  }
}

// One client's life until its session ends, or for long. Returns how many works it had.
int Live(Random* random, RingWorld* world, RingPeer* peer) {
  // Most lives are good for a while, or the fuzz would see nothing but beginnings.
  const uint64_t sins = Draw(random, 100);
  int step = 0;
  for (; step < 300 && world->ended.empty(); ++step) {
    const bool odd = Draw(random, 100) < sins;
    SubmissionEntry entry = odd ? OddEntry(random, *peer) : peer->Allreduce("dp");
    if (!odd || Draw(random, 50) != 0) entry.number = ++peer->last_number;
    if (peer->works->TryPush(entry) == RingProducer<SubmissionEntry>::Push::kDone &&
        peer->works->MustRing()) {
      RingDoorbell(peer->doorbell.get());
    }
    if (odd) Misbehave(random, peer);
    if (Draw(random, 3) == 0) world->Settle();
    if (Draw(random, 20) == 0) world->LetAllSleep();
    if (!odd) TakeAll(peer);
  }
  return step;
}

TEST_CASE("whatever a client writes, others go on") {
  const uint64_t seed = std::random_device()();
  INFO("seed " << seed);
  Random random(seed);
  int ended = 0;
  int works = 0;
  for (int life = 0; life < 60; ++life) {
    RingWorld world;
    RingPeer good(&world);
    good.client.Join("good", 0, 1);
    good.Create();
    const auto peers = FormRingGroup(&world, 1);
    works += Live(&random, &world, peers[0].get());
    world.Settle();
    ended += static_cast<int>(world.ended.size());
    for (const auto& [session, failure] : world.ended) REQUIRE(session != good.client.session);
    good.Submit(good.Allreduce("good"));
    world.Settle();
    const auto completion = good.Take();
    REQUIRE(completion.has_value());
    CHECK(completion->second.empty());
  }
  // It does reach what it is after: sessions that end, after more than a few works.
  CHECK(ended > 10);
  CHECK(works > 600);
}

}  // namespace
}  // namespace tutti
