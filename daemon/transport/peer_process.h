// Who is at the other end of a Unix socket, as the kernel says.
//
// Thread-safe: free functions without state.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace tutti {

struct PeerProcess {
  // In our view; 0 if the process is not visible (another PID namespace).
  uint32_t pid = 0;
  uint32_t uid = 0;
  // Becomes readable when the process ends. None if it is not visible, or the kernel has none: then
  // only the hang-up of the socket tells, and that may come late if a child has inherited it.
  UniqueFd pidfd;
};

// The process that connected `socket`. Fails with kUnavailable if it is gone already.
absl::StatusOr<PeerProcess> IdentifyPeer(int socket);

}  // namespace tutti
