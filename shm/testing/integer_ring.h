// A queue of integers in memory of its own, for tests of the ring.
#pragma once

#include <array>
#include <cstdint>

#include "shm/ring.h"

namespace tutti {

struct IntegerRing {
  std::array<uint64_t, 4> entries{};
  uint64_t tail = 0;
  uint64_t head = 0;
  uint32_t sleeps = 0;

  RingQueue<uint64_t> queue() { return {entries.data(), entries.size(), &tail, &head, &sleeps}; }
};

}  // namespace tutti
