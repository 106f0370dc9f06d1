// What wakes the other side of a ring: a pair of stream sockets. A byte is a ring, and the hang-up
// is the end of the other side.
//
// Not eventfds: whether a call on an eventfd waits is a property of the file that both processes
// share, so a hostile client could stop the daemon (docs/adr/0010-ring-lane.md). Thread-safe: free
// functions without state. Nothing here blocks (but see no_descriptors.h for old kernels).
#pragma once

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace tutti {

struct DoorbellPair {
  UniqueFd ours;
  UniqueFd theirs;
};

// Fails with kResourceExhausted (no descriptors).
absl::StatusOr<DoorbellPair> MakeDoorbell();

// Wakes who waits at the other end. Does nothing if that has hung up, or has rings enough.
void RingDoorbell(int doorbell);

// Takes the rings that have come. False if the other side has hung up.
bool SilenceDoorbell(int doorbell);

}  // namespace tutti
