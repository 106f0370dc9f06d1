#include "shm/packet.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "shm/no_descriptors.h"

namespace tutti {
namespace {

// Longer than any healthy daemon needs to accept or to read; short enough for a person to wait.
constexpr time_t kSendTimeoutSeconds = 5;

// Room for exactly the descriptors allowed: CMSG_SPACE would round it up to two, and the kernel
// uses all there is.
constexpr size_t kControlBytes = CMSG_LEN(kPacketFdsMax * sizeof(int));

struct alignas(cmsghdr) ControlBuffer {
  std::array<std::byte, CMSG_SPACE(kPacketFdsMax * sizeof(int))> bytes{};
};

bool WouldBlock(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

std::string ErrorText(int error) { return std::strerror(error); }

absl::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  if (path.empty() || path.size() > kSocketPathBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the socket path '", path, "' has ", path.size(), " bytes, which must be 1 to ",
        kSocketPathBytesMax, "; choose a shorter TUTTI_SOCKET_DIR"));
  }
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, path.size());
  return address;
}

const sockaddr* Generic(const sockaddr_un* address) {
  return reinterpret_cast<const sockaddr*>(address);
}

// Takes the descriptors out of a received message, so that every one of them is owned.
std::vector<UniqueFd> TakeFds(msghdr* message) {
  std::vector<UniqueFd> fds;
  for (cmsghdr* header = CMSG_FIRSTHDR(message); header != nullptr;
       header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      fds.emplace_back(fd);
    }
  }
  return fds;
}

absl::Status ConnectError(const std::string& path, int error) {
  const std::string where = absl::StrCat("cannot connect to ", path, ": ");
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::UnavailableError(
          absl::StrCat(where, "it does not exist; is tuttid running, and TUTTI_SOCKET_DIR right?"));
    case ECONNREFUSED:
      return absl::UnavailableError(
          absl::StrCat(where, "nobody listens there; is tuttid running?"));
    case EAGAIN:
      return absl::UnavailableError(absl::StrCat(where, "tuttid did not accept within ",
                                                 kSendTimeoutSeconds,
                                                 " s; is it stopped or overloaded?"));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(
          absl::StrCat(where, "permission denied; only tuttid's user and group may connect"));
    case EPROTOTYPE:
      return absl::FailedPreconditionError(absl::StrCat(where, "it is not a session socket"));
    default:
      return absl::UnavailableError(absl::StrCat(where, ErrorText(error)));
  }
}

// Makes way for a new socket file, but deletes nothing that is no socket.
absl::Status RemoveStaleSocket(const std::string& path) {
  struct stat file {};
  if (lstat(path.c_str(), &file) != 0)
    return absl::OkStatus();  // bind says what is wrong, if it is
  if (!S_ISSOCK(file.st_mode)) {
    return absl::AlreadyExistsError(absl::StrCat(path, " exists and is not a socket"));
  }
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return absl::PermissionDeniedError(
        absl::StrCat("cannot replace ", path, ": ", ErrorText(errno)));
  }
  return absl::OkStatus();
}

absl::Status BindError(const std::string& path, int error) {
  const std::string text = absl::StrCat("cannot bind ", path, ": ", ErrorText(error));
  switch (error) {
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(text);
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(text);
    case EADDRINUSE:
      return absl::AlreadyExistsError(text);
    default:
      return absl::InternalError(text);
  }
}

absl::StatusOr<UniqueFd> Listen(const std::string& path, mode_t mode, int type) {
  const absl::StatusOr<sockaddr_un> address = AddressOf(path);
  if (!address.ok()) return address.status();
  UniqueFd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) {
    return absl::ResourceExhaustedError(absl::StrCat("socket: ", ErrorText(errno)));
  }
  // Linux gives the file the socket's own mode, less the umask (unix_bind). So the file is never
  // open to more than `mode`, and the umask, which belongs to all threads, stays as it is. chmod
  // then adds what the umask took away; until listen, nobody can connect in any case.
  if (fchmod(socket.get(), mode) != 0) {
    return absl::InternalError(absl::StrCat("fchmod of a socket: ", ErrorText(errno)));
  }
  if (const absl::Status status = RemoveStaleSocket(path); !status.ok()) return status;
  if (bind(socket.get(), Generic(&*address), sizeof(*address)) != 0) return BindError(path, errno);
  if (chmod(path.c_str(), mode) != 0) return BindError(path, errno);
  // Before anybody connects: what is accepted inherits it.
  RefuseDescriptors(socket.get());
  if (listen(socket.get(), SOMAXCONN) != 0) return BindError(path, errno);
  return socket;
}

}  // namespace

absl::Status SendPacket(int socket, std::string_view bytes, absl::Span<const int> fds) {
  if (bytes.empty() || bytes.size() > kPacketBytesMax || fds.size() > kPacketFdsMax) {
    return absl::InvalidArgumentError(absl::StrCat("a packet of ", bytes.size(), " bytes and ",
                                                   fds.size(), " descriptors; allowed are 1 to ",
                                                   kPacketBytesMax, " and ", kPacketFdsMax));
  }
  // sendmsg does not write through it.
  iovec part{.iov_base = const_cast<char*>(bytes.data()), .iov_len = bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  ControlBuffer control;
  if (!fds.empty()) {
    message.msg_control = control.bytes.data();
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  ssize_t sent = 0;
  do {
    sent = sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return absl::OkStatus();
  const int error = errno;
  if (WouldBlock(error)) return absl::UnavailableError("the peer's queue is full");
  if (error == EPIPE || error == ECONNRESET || error == ENOTCONN) {
    return absl::UnavailableError("the peer has hung up");
  }
  return absl::InternalError(absl::StrCat("sendmsg: ", ErrorText(error)));
}

absl::StatusOr<std::optional<Packet>> ReceivePacket(int socket) {
  std::array<char, kPacketBytesMax> buffer;
  iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
  ControlBuffer control;
  msghdr message{};
  ssize_t received = 0;
  do {
    message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes.data();
    message.msg_controllen = kControlBytes;
    received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (received < 0 && errno == EINTR);
  if (received < 0) {
    const int error = errno;
    if (WouldBlock(error)) return absl::UnavailableError("no packet has arrived");
    // The peer closed its end without having read all that we sent.
    if (error == ECONNRESET) return std::optional<Packet>();
    return absl::InternalError(absl::StrCat("recvmsg: ", ErrorText(error)));
  }
  Packet packet;
  packet.fds = TakeFds(&message);
  if ((message.msg_flags & MSG_TRUNC) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a packet of more than ", kPacketBytesMax, " bytes"));
  }
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a packet with more than ", kPacketFdsMax,
                     " descriptors, or this process has reached its limit of open files"));
  }
  if (received == 0) return std::optional<Packet>();
  packet.bytes.assign(buffer.data(), static_cast<size_t>(received));
  return std::optional<Packet>(std::move(packet));
}

absl::StatusOr<UniqueFd> ConnectPacketSocket(const std::string& path) {
  const absl::StatusOr<sockaddr_un> address = AddressOf(path);
  if (!address.ok()) return address.status();
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket.valid()) {
    return absl::ResourceExhaustedError(absl::StrCat("socket: ", ErrorText(errno)));
  }
  const timeval timeout{.tv_sec = kSendTimeoutSeconds, .tv_usec = 0};
  if (setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) != 0) {
    return absl::InternalError(absl::StrCat("SO_SNDTIMEO: ", ErrorText(errno)));
  }
  // A Unix socket that a signal interrupts while it waits to be accepted is not connecting any
  // more, as one of TCP would be: it is simply tried again.
  int connected = 0;
  do {
    connected = connect(socket.get(), Generic(&*address), sizeof(*address));
  } while (connected != 0 && errno == EINTR);
  if (connected != 0) return ConnectError(path, errno);
  return socket;
}

absl::StatusOr<UniqueFd> ListenPacketSocket(const std::string& path, mode_t mode) {
  return Listen(path, mode, SOCK_SEQPACKET);
}

absl::StatusOr<UniqueFd> ListenStreamSocket(const std::string& path, mode_t mode) {
  return Listen(path, mode, SOCK_STREAM);
}

}  // namespace tutti
