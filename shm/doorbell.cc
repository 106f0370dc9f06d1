#include "shm/doorbell.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "shm/no_descriptors.h"

namespace tutti {

absl::StatusOr<DoorbellPair> MakeDoorbell() {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0) {
    return absl::ResourceExhaustedError(absl::StrCat("socketpair: ", std::strerror(errno)));
  }
  RefuseDescriptors(ends[0]);
  return DoorbellPair{.ours = UniqueFd(ends[0]), .theirs = UniqueFd(ends[1])};
}

void RingDoorbell(int doorbell) {
  const char ring = 1;
  ssize_t sent = 0;
  do {
    sent = send(doorbell, &ring, sizeof(ring), MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
}

bool SilenceDoorbell(int doorbell) {
  // Rings come one at a time from a peer in good order; what is left of others rings again.
  std::array<char, 256> rings;
  ssize_t taken = 0;
  do {
    taken = recv(doorbell, rings.data(), rings.size(), MSG_DONTWAIT);
  } while (taken < 0 && errno == EINTR);
  return taken > 0 || (taken < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
}

}  // namespace tutti
