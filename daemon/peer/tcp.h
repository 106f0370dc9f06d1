// TCP as daemons use it among each other: addresses "host:port", a socket that listens, and which
// address of this node others can reach.
//
// Thread-safe: free functions without state. What looks names up may block.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace tutti {

struct HostPort {
  std::string host;  // without brackets; empty: of no host in particular
  uint16_t port = 0;

  friend bool operator==(const HostPort&, const HostPort&) = default;
};

// "10.0.0.7:7411", "[fd00::7]:7411", "node7:7411", ":7411". Fails with kInvalidArgument.
absl::StatusOr<HostPort> ParseHostPort(const std::string& text);
std::string FormatHostPort(const HostPort& address);

// What gRPC calls a channel to "host:port".
std::string GrpcAddress(const std::string& address);

// True of addresses that one can listen on and not reach: none, 0.0.0.0, [::].
bool IsWildcard(const std::string& host);

struct ListeningSocket {
  UniqueFd socket;  // does not block
  uint16_t port = 0;
};

// Looks the host up; none: all addresses of this node, of either kind. Fails with kUnavailable,
// saying what could not be done.
absl::StatusOr<ListeningSocket> ListenTcp(const HostPort& address);

// The address of this node that the kernel takes to reach `peer`, which is gRPC's name of it
// ("ipv4:10.0.0.7:7411"). Empty if there is none. Nothing is sent, and no name looked up.
std::string LocalHostToward(const std::string& peer);

}  // namespace tutti
