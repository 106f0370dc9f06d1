// One session with the daemon of this node.
//
// Thread-safe. Owned by the caller; groups, works and tensors may outlive it, but operations that
// have not completed when it is destroyed fail with kSessionClosed, as do later ones.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/result.h"
#include "base/types.h"
#include "client/cpp/group.h"
#include "client/cpp/tensor.h"

namespace tutti {
inline namespace client {

class Connection;

struct ClientOptions {
  // Where the daemon's sockets are. Empty: $TUTTI_SOCKET_DIR, else /run/tutti as root, else
  // $XDG_RUNTIME_DIR/tutti.
  std::string socket_dir;
  // Groups are scoped by it. Empty: $TUTTI_NAMESPACE, else "default".
  std::string name_space;
  // How operations reach the daemon: "ring" (shared memory), "grpc", or "auto": the ring if it can
  // be had, which `tutti sessions` tells. Empty: $TUTTI_LANE, else "auto".
  std::string lane;
  // What status shows for this process. Empty: the name of the program.
  std::string label;
};

class Client {
 public:
  // Opens a session. Fails with kUnavailable (no daemon there, or it does not answer),
  // kPermissionDenied, kResourceExhausted (too many sessions), kInvalidArgument (names too long, or
  // the daemon does not speak this protocol); the message says what to do.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const ClientOptions& options);

  // Closes the session in good order: ranks that it still holds leave their groups.
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Memory for `count` elements, not initialised. Cheap if a tensor of about this size was dropped
  // before; else about half a second per GiB. Fails with kResourceExhausted (a limit of the daemon,
  // or no memory), kInvalidArgument (no dtype, too large), kUnavailable.
  absl::StatusOr<Tensor> NewTensor(DataType dtype, size_t count);

  // Takes a seat and waits until all ranks have. Fails with kDeadline (naming the ranks that have
  // not joined), kSeatTaken, kMismatch (ranks disagree on the group), kInvalid, kLimit, kDraining,
  // kNodeLost.
  Result<Group> Join(const JoinOptions& options);

  // Names the session in what the daemon shows.
  uint64_t session_id() const;

 private:
  explicit Client(std::shared_ptr<Connection> connection);

  // Shared with the groups.
  std::shared_ptr<Connection> connection_;
};

}  // namespace client
}  // namespace tutti
