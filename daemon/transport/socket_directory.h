// Where daemon, tool and clients meet: the directory, its lock, and the files of the sockets.
//
//   tuttid.lock    flock'ed as long as the daemon lives; holds its pid and version
//   session.sock   0660   grpc.sock   0660   admin.sock   0600
//
// One owner, one thread. The lock is taken before any socket is touched, so that a second daemon
// can't take the sockets of a living one (G-2); a socket's file is deleted only while it still is
// the one that was made here (G-3).
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace tutti {

class SocketDirectory {
 public:
  // Makes the directory (0750) if need be, its parents not, and takes the lock. Fails with
  // kAlreadyExists if a daemon holds it, saying which; kPermissionDenied, kNotFound (no parent),
  // kFailedPrecondition (no directory).
  static absl::StatusOr<SocketDirectory> Open(const std::string& path);

  SocketDirectory(SocketDirectory&&) = default;
  SocketDirectory& operator=(SocketDirectory&&) = delete;
  // RemoveSockets. The lock file stays: deleting it would race with the next daemon.
  ~SocketDirectory();

  // Deletes the sockets' files, but not those that others have put in their place.
  void RemoveSockets();

  // Makes a listening, non-blocking socket at `path`, which lies in this directory, in place of a
  // stale one. Errors as ListenPacketSocket.
  absl::StatusOr<UniqueFd> ListenPacket(const std::string& path, mode_t mode);
  absl::StatusOr<UniqueFd> ListenStream(const std::string& path, mode_t mode);

  const std::string& path() const { return path_; }
  // Whether a daemon has had it before, since the directory was made.
  bool used_before() const { return used_before_; }

 private:
  struct Socket {
    std::string path;
    dev_t device = 0;
    ino_t inode = 0;
  };

  SocketDirectory(std::string path, UniqueFd lock, bool used_before);
  absl::StatusOr<UniqueFd> Remember(const std::string& path, absl::StatusOr<UniqueFd> socket);

  std::string path_;
  UniqueFd lock_;
  bool used_before_ = false;
  std::vector<Socket> sockets_;
};

}  // namespace tutti
