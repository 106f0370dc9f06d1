#include "daemon/transport/peer_process.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace tutti {
namespace {

// Linux 6.5; Debian 12's headers are older. The kernel resolves the very process that connected.
constexpr int kSoPeerPidfd = 77;

bool HasHungUp(int socket) {
  pollfd state{};
  state.fd = socket;
  return poll(&state, 1, 0) == 1 && (state.revents & (POLLHUP | POLLERR)) != 0;
}

}  // namespace

absl::StatusOr<PeerProcess> IdentifyPeer(int socket) {
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return absl::UnavailableError(absl::StrCat("SO_PEERCRED: ", std::strerror(errno)));
  }
  PeerProcess peer;
  peer.pid = static_cast<uint32_t>(credentials.pid);
  peer.uid = credentials.uid;

  int pidfd = -1;
  size = sizeof(pidfd);
  if (getsockopt(socket, SOL_SOCKET, kSoPeerPidfd, &pidfd, &size) == 0) {
    peer.pidfd.Reset(pidfd);
    return peer;
  }
  if (peer.pid == 0) return peer;
  if (errno == ESRCH || errno == EINVAL) return absl::UnavailableError("the process has ended");
  peer.pidfd.Reset(static_cast<int>(syscall(SYS_pidfd_open, credentials.pid, 0)));
  if (!peer.pidfd.valid()) {
    if (errno == ESRCH) return absl::UnavailableError("the process has ended");
    return peer;  // no such call, or no descriptor left: the hang-up has to do
  }
  // The number may have gone to another process before we asked by it. If the socket is still open
  // at its other end, then it had not (or a child holds the socket: nothing can tell that).
  if (HasHungUp(socket)) return absl::UnavailableError("the process has ended");
  return peer;
}

}  // namespace tutti
