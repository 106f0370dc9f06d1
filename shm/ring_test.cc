#include "shm/ring.h"

#include <catch2/catch.hpp>

#include "shm/testing/integer_ring.h"

namespace tutti {
namespace {

using Producer = RingProducer<uint64_t>;
using Consumer = RingConsumer<uint64_t>;

TEST_CASE("what goes in comes out in order, and a full queue says so") {
  IntegerRing world;
  Producer producer(world.queue());
  Consumer consumer(world.queue());
  uint64_t entry = 0;
  for (uint64_t round = 0; round < 10; ++round) {
    CHECK(consumer.TryPop(&entry) == Consumer::Pop::kEmpty);
    for (uint64_t i = 0; i < 4; ++i) {
      CHECK(producer.TryPush(4 * round + i) == Producer::Push::kDone);
    }
    CHECK(producer.TryPush(99) == Producer::Push::kFull);
    for (uint64_t i = 0; i < 4; ++i) {
      REQUIRE(consumer.TryPop(&entry) == Consumer::Pop::kDone);
      CHECK(entry == 4 * round + i);
    }
  }
}

TEST_CASE("indexes that can't be are the other side's fault") {
  IntegerRing world;
  Producer producer(world.queue());
  Consumer consumer(world.queue());
  uint64_t entry = 0;
  world.tail = 5;
  CHECK(consumer.TryPop(&entry) == Consumer::Pop::kBroken);
  world.tail = 0;
  for (uint64_t i = 0; i < 4; ++i) CHECK(producer.TryPush(i) == Producer::Push::kDone);
  world.head = 5;
  CHECK(producer.TryPush(4) == Producer::Push::kBroken);
}

}  // namespace
}  // namespace tutti
