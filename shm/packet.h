// Unix sockets: packets with descriptors (SOCK_SEQPACKET), and how sockets are made and found.
//
// Thread-safe: free functions without state. All are safe against signals (EINTR) and against peers
// that have gone (no SIGPIPE). Descriptors are close-on-exec everywhere.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"

namespace tutti {

// Of one packet. The largest that we send is a Hello with its label: some hundred bytes.
inline constexpr size_t kPacketBytesMax = 4096;

// What one packet may carry: an arena's memfd.
inline constexpr size_t kPacketFdsMax = 1;

// The longest path of a Unix socket: what sockaddr_un holds, without the final zero.
inline constexpr size_t kSocketPathBytesMax = 107;

struct Packet {
  std::string bytes;
  std::vector<UniqueFd> fds;
};

// Sends one packet, whole or not at all; the caller keeps `fds`. Fails with kUnavailable if the
// peer has gone ("has hung up"), or if its queue is full and the socket may not wait; with
// kInvalidArgument if the packet is empty (that would look like hanging up) or too large.
absl::Status SendPacket(int socket, std::string_view bytes, absl::Span<const int> fds);

// Receives one packet; nothing if the peer has hung up. Fails with kUnavailable if there is none
// and the socket may not wait, with kInvalidArgument if the packet or its descriptors are more than
// allowed; descriptors that came with it are closed then.
absl::StatusOr<std::optional<Packet>> ReceivePacket(int socket);

// Connects to a listening SOCK_SEQPACKET socket. The result blocks, but no connect and no send
// waits longer than 5 s for a daemon that is stopped. Fails with kUnavailable if nobody listens
// there, kPermissionDenied, kInvalidArgument (path too long).
absl::StatusOr<UniqueFd> ConnectPacketSocket(const std::string& path);

// Makes a listening, non-blocking socket at `path`, whose file never has more permissions than
// `mode`. Replaces a socket file that is there: the caller holds the lock that says it is stale.
// Fails with kInvalidArgument (path too long), kAlreadyExists (something else is at that path),
// kPermissionDenied, kNotFound (no such directory).
absl::StatusOr<UniqueFd> ListenPacketSocket(const std::string& path, mode_t mode);
absl::StatusOr<UniqueFd> ListenStreamSocket(const std::string& path, mode_t mode);

}  // namespace tutti
