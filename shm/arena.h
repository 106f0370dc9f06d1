// Arenas: host memory that one client and the daemon share (design.md, Memory). The steps, in
// order:
//
//   daemon  CreateArenaFile   a memfd of the right size, without memory yet; sent to the client
//   client  PopulateArena     allocates and maps it: the client's memory limit and NUMA node pay
//   daemon  AdoptArena        maps it, seals it, verifies it
//
// After that the file keeps its size and its memory for ever, and nobody can map it writable again:
// the daemon can touch every byte at any time, whatever the client does. Thread-safe: free
// functions without state. All of them block (330 ms per GiB to allocate, 85 to map): not for the
// control loop, but for CreateArenaFile, which takes microseconds.
#pragma once

#include <cstddef>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "shm/mapping.h"

namespace tutti {

// Makes the memfd. Fails with kInvalidArgument (size 0 or too large for a file), kResourceExhausted
// (no descriptors or memory).
absl::StatusOr<UniqueFd> CreateArenaFile(size_t size_bytes);

// Allocates all of it and maps it. Fails with kResourceExhausted if there is not enough memory, but
// beyond a cgroup's limit the kernel kills the caller instead. The caller may close `fd`
// afterwards.
absl::StatusOr<Mapping> PopulateArena(int fd, size_t size_bytes);

// Maps, seals and verifies what the client has populated. Fails with kInvalidArgument, whatever the
// client has done to the file meanwhile, if the result would not be safe to touch; the file may
// then be sealed, and is of no more use. The caller may close `fd` afterwards.
absl::StatusOr<Mapping> AdoptArena(int fd, size_t size_bytes);

}  // namespace tutti
