#include "daemon/transport/socket_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/version.h"
#include "shm/packet.h"

namespace tutti {
namespace {

constexpr mode_t kDirectoryMode = 0750;
constexpr mode_t kLockMode = 0644;  // who holds it is no secret

absl::Status ErrorOf(const std::string& what, int error) {
  const std::string text = absl::StrCat(what, ": ", std::strerror(error));
  switch (error) {
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(
          absl::StrCat(text, "; choose another one with --socket_dir"));
    case ENOENT:
      return absl::NotFoundError(absl::StrCat(text, "; its parent must exist"));
    case ELOOP:
    case ENOTDIR:
      return absl::FailedPreconditionError(text);
    default:
      return absl::InternalError(text);
  }
}

absl::Status MakeDirectory(const std::string& path) {
  if (mkdir(path.c_str(), kDirectoryMode) == 0) {
    // The umask may have taken too much away.
    if (chmod(path.c_str(), kDirectoryMode) != 0) return ErrorOf(path, errno);
    return absl::OkStatus();
  }
  if (errno != EEXIST) return ErrorOf(absl::StrCat("cannot make ", path), errno);
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return ErrorOf(path, errno);
  if (!S_ISDIR(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is no directory"));
  }
  // Kubernetes makes an emptyDir so; that is the operator's choice, but a surprise elsewhere.
  if ((info.st_mode & S_IWOTH) != 0) {
    LogWarning("sockets.open path={} reason=\"others may write: they could replace the sockets\"",
               Quoted(path));
  }
  return absl::OkStatus();
}

std::string ReadHolder(int lock) {
  std::array<char, 128> text{};
  const ssize_t size = pread(lock, text.data(), text.size(), 0);
  if (size <= 0) return "unknown";
  return std::string(
      absl::StripAsciiWhitespace(std::string(text.data(), static_cast<size_t>(size))));
}

bool IsStillAt(const std::string& path, int fd) {
  struct stat at_path {};
  struct stat open_file {};
  return stat(path.c_str(), &at_path) == 0 && fstat(fd, &open_file) == 0 &&
         at_path.st_dev == open_file.st_dev && at_path.st_ino == open_file.st_ino;
}

absl::StatusOr<UniqueFd> TakeLock(const std::string& path) {
  UniqueFd lock(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kLockMode));
  if (!lock.valid()) return ErrorOf(absl::StrCat("cannot open ", path), errno);
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrorOf(absl::StrCat("cannot lock ", path), errno);
    return absl::AlreadyExistsError(absl::StrCat("another tuttid is running here (",
                                                 ReadHolder(lock.get()), "); it holds ", path,
                                                 "; stop it, or choose another --socket_dir"));
  }
  if (!IsStillAt(path, lock.get())) {
    return absl::AlreadyExistsError(absl::StrCat(path, " was replaced meanwhile; try again"));
  }
  const std::string holder = absl::StrCat("pid ", getpid(), ", version ", kVersion, "\n");
  if (ftruncate(lock.get(), 0) != 0 || pwrite(lock.get(), holder.data(), holder.size(), 0) < 0) {
    return ErrorOf(absl::StrCat("cannot write ", path), errno);
  }
  return lock;
}

}  // namespace

absl::StatusOr<SocketDirectory> SocketDirectory::Open(const std::string& path) {
  if (const absl::Status made = MakeDirectory(path); !made.ok()) return made;
  const std::string lock_path = absl::StrCat(path, "/tuttid.lock");
  const bool used_before = access(lock_path.c_str(), F_OK) == 0;
  absl::StatusOr<UniqueFd> lock = TakeLock(lock_path);
  if (!lock.ok()) return lock.status();
  return SocketDirectory(path, std::move(*lock), used_before);
}

SocketDirectory::SocketDirectory(std::string path, UniqueFd lock, bool used_before)
    : path_(std::move(path)), lock_(std::move(lock)), used_before_(used_before) {}

SocketDirectory::~SocketDirectory() { RemoveSockets(); }

void SocketDirectory::RemoveSockets() {
  for (const Socket& socket : std::exchange(sockets_, {})) {
    struct stat info {};
    if (lstat(socket.path.c_str(), &info) != 0) continue;
    if (info.st_dev != socket.device || info.st_ino != socket.inode) continue;
    if (unlink(socket.path.c_str()) != 0) {
      LogWarning("socket.left path={} error={}", Quoted(socket.path), Quoted(std::strerror(errno)));
    }
  }
}

absl::StatusOr<UniqueFd> SocketDirectory::ListenPacket(const std::string& path, mode_t mode) {
  return Remember(path, ListenPacketSocket(path, mode));
}

absl::StatusOr<UniqueFd> SocketDirectory::ListenStream(const std::string& path, mode_t mode) {
  return Remember(path, ListenStreamSocket(path, mode));
}

absl::StatusOr<UniqueFd> SocketDirectory::Remember(const std::string& path,
                                                   absl::StatusOr<UniqueFd> socket) {
  if (!socket.ok()) return socket;
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) return ErrorOf(path, errno);
  sockets_.push_back({path, info.st_dev, info.st_ino});
  return socket;
}

}  // namespace tutti
