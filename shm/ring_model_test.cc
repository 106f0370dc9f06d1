// The ring's protocol in every order that a processor with store buffers can run it in, on the real
// code. Not under sanitizers, which do not know of fibers.
#include <catch2/catch.hpp>
#include <vector>

#include "shm/ring.h"
#include "shm/testing/integer_ring.h"
#include "shm/testing/tso_machine.h"

namespace tutti {
namespace {

// A producer of `puts` entries that rings after each, and a consumer that takes them all, sleeping
// whenever it may. Returns whether somebody was left asleep.
template <typename Memory>
bool SleeperIsLeft(TsoMachine* machine, uint64_t puts) {
  IntegerRing world;
  std::vector<uint64_t> got;
  machine->Run(
      [&] {
        RingProducer<uint64_t, Memory> producer(world.queue());
        for (uint64_t i = 0; i < puts; ++i) {
          while (producer.TryPush(i) != RingProducer<uint64_t, Memory>::Push::kDone) {
          }
          if (producer.MustRing()) machine->Ring();
        }
      },
      [&] {
        RingConsumer<uint64_t, Memory> consumer(world.queue());
        while (got.size() < puts) {
          uint64_t entry = 0;
          if (consumer.TryPop(&entry) == RingConsumer<uint64_t, Memory>::Pop::kDone) {
            got.push_back(entry);
          } else {
            if (consumer.MaySleep()) machine->WaitForRing();
            consumer.Awake();
          }
        }
      });
  for (uint64_t i = 0; i < got.size(); ++i) REQUIRE(got[i] == i);
  return machine->stuck();
}

TEST_CASE("no order of a machine with store buffers loses a wake-up") {
  for (const uint64_t puts : {1, 2, 3}) {
    size_t stuck = 0;
    const size_t orders = ForEachOrder(
        [&](TsoMachine* machine) { stuck += SleeperIsLeft<TsoMemory>(machine, puts) ? 1 : 0; });
    INFO(orders << " orders of " << puts << " entries");
    CHECK(orders > 20);
    CHECK(stuck == 0);
  }
}

// A producer that puts an entry into each of two queues, and passes one fence for both before it
// looks who sleeps; the consumer of the first.
bool SleeperIsLeftByOneFence(TsoMachine* machine) {
  IntegerRing world;
  IntegerRing other;
  machine->Run(
      [&] {
        RingProducer<uint64_t, TsoMemory> first(world.queue());
        RingProducer<uint64_t, TsoMemory> second(other.queue());
        for (uint64_t i = 0; i < 2; ++i) {
          first.TryPush(i);
          second.TryPush(i);
          TsoMemory::Fence();
          if (first.IsAsleep()) machine->Ring();
          second.IsAsleep();
        }
      },
      [&] {
        RingConsumer<uint64_t, TsoMemory> consumer(world.queue());
        for (uint64_t got = 0; got < 2;) {
          uint64_t entry = 0;
          if (consumer.TryPop(&entry) == RingConsumer<uint64_t, TsoMemory>::Pop::kDone) {
            REQUIRE(entry == got++);
          } else {
            if (consumer.MaySleep()) machine->WaitForRing();
            consumer.Awake();
          }
        }
      });
  return machine->stuck();
}

TEST_CASE("one fence serves all queues") {
  size_t stuck = 0;
  const size_t orders =
      ForEachOrder([&](TsoMachine* machine) { stuck += SleeperIsLeftByOneFence(machine) ? 1 : 0; });
  CHECK(orders > 20);
  CHECK(stuck == 0);
}

// The planted defect: without fences.
struct FencelessMemory : TsoMemory {
  static void Fence() {}
};

TEST_CASE("without fences some order does, and is found") {
  size_t stuck = 0;
  ForEachOrder(
      [&](TsoMachine* machine) { stuck += SleeperIsLeft<FencelessMemory>(machine, 1) ? 1 : 0; });
  CHECK(stuck > 0);
}

}  // namespace
}  // namespace tutti
