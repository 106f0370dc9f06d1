// The parts of a ring's region, found by their places in ring_layout.h.
//
// A view: owns nothing; the memory must outlive it. Thread-safe in the sense that finding is; who
// may touch what is said in ring.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "shm/ring.h"
#include "shm/ring_layout.h"

namespace tutti {

class RingRegion {
 public:
  // `data` is aligned to a page and has RingBytes(entries) bytes.
  RingRegion(std::byte* data, uint32_t entries) : data_(data), entries_(entries) {}

  uint32_t entries() const { return entries_; }

  // The client produces, the daemon consumes.
  RingQueue<SubmissionEntry> submissions() const;
  // The daemon produces, the client consumes.
  RingQueue<CompletionEntry> completions() const;
  // kRingFailureBytes. REQUIRES: slot < kRingFailureSlots
  std::byte* failure_slot(uint32_t slot) const;

 private:
  template <typename T>
  T* At(size_t offset) const {
    return reinterpret_cast<T*>(data_ + offset);
  }

  std::byte* data_;
  uint32_t entries_;
};

// What a client writes into a zeroed region first.
RingHeader MakeRingHeader(uint32_t entries);

// Fails with kInvalidArgument if this build can't read such a region, saying why.
absl::Status CheckRingHeader(const RingHeader& header);

// The smallest number of entries that holds so many works in flight, as far as there is one.
uint32_t RingEntriesFor(uint64_t works_in_flight);

}  // namespace tutti
