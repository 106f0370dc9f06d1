#include "daemon/transport/failure_slots.h"

namespace tutti {

std::optional<FailureSlots::Place> FailureSlots::Find(const std::string& bytes, uint64_t completion,
                                                      uint64_t taken) {
  std::optional<uint32_t> free;
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    if (slot.needed_until <= taken) {
      free = i;
    } else if (slot.bytes == bytes) {
      slot.needed_until = completion + 1;
      return Place{.slot = i, .write = false};
    }
  }
  if (!free.has_value()) return std::nullopt;
  slots_[*free] = {.bytes = bytes, .needed_until = completion + 1};
  return Place{.slot = *free, .write = true};
}

}  // namespace tutti
