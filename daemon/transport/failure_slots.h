// Which slot of a ring holds which failure. Many works fail of one failure, so they share its slot.
//
// Pure logic, not thread-safe. Completions are named by their place in the completion queue: 0, 1,
// 2... The daemon remembers what it wrote; what the region says it never asks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "shm/ring_layout.h"

namespace tutti {

class FailureSlots {
 public:
  struct Place {
    uint32_t slot = 0;
    bool write = false;  // the bytes are not there yet
  };
  // Finds a slot with these bytes, or a free one, for the completion at `completion`; `taken`
  // completions have been taken. Nothing if all slots hold failures that are still to be taken.
  std::optional<Place> Find(const std::string& bytes, uint64_t completion, uint64_t taken);

 private:
  struct Slot {
    std::string bytes;
    uint64_t needed_until = 0;  // free when so many completions have been taken
  };
  std::array<Slot, kRingFailureSlots> slots_;
};

}  // namespace tutti
