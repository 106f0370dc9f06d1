// Where daemon, tool and clients meet: a directory with Unix sockets.
//
// Thread-safe: free functions without state, but ResolveSocketDir reads the environment.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace tutti {

// `given` if it is not empty, else $TUTTI_SOCKET_DIR, else /run/tutti as root, else
// $XDG_RUNTIME_DIR/tutti; always absolute. Fails with kFailedPrecondition if there is none of
// these, kInvalidArgument if the path is too long for sockets in it (the kernel takes 107 bytes;
// gRPC fails later, without a reason).
absl::StatusOr<std::string> ResolveSocketDir(const std::string& given);

// SOCK_SEQPACKET: the lease of each client.
std::string SessionSocketPath(const std::string& socket_dir);
// gRPC for clients.
std::string ClientSocketPath(const std::string& socket_dir);
// gRPC for operators.
std::string AdminSocketPath(const std::string& socket_dir);

// What gRPC calls the socket at this absolute path. A URI, so what has a meaning there is quoted.
std::string GrpcTarget(const std::string& socket_path);

}  // namespace tutti
