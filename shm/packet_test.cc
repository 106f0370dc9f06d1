#include "shm/packet.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "shm/testing/open_fds.h"

namespace tutti {
namespace {

struct Pair {
  explicit Pair(int flags = 0) {
    int ends[2] = {-1, -1};
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0, ends) == 0);
    a.Reset(ends[0]);
    b.Reset(ends[1]);
  }
  UniqueFd a;
  UniqueFd b;
};

// A directory for sockets, removed with what is in it.
struct Directory {
  Directory() { REQUIRE(mkdtemp(path.data()) != nullptr); }
  ~Directory() { std::filesystem::remove_all(path); }
  std::string operator/(const std::string& name) const { return path + "/" + name; }
  std::string path = "/tmp/tutti-test-XXXXXX";
};

bool Contains(const absl::Status& status, const std::string& part) {
  return std::string(status.message()).find(part) != std::string::npos;
}

bool SameFile(int a, int b) {
  struct stat first {
  }, second{};
  REQUIRE((fstat(a, &first) == 0 && fstat(b, &second) == 0));
  return first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

// As a hostile peer would: no check of ours on the way.
void SendRaw(int socket, std::string bytes, const std::vector<int>& fds) {
  iovec part{.iov_base = bytes.data(), .iov_len = bytes.size()};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(64 * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  REQUIRE(sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(part.iov_len));
}

TEST_CASE("Packets arrive whole, in order, with their descriptors") {
  const Pair pair;
  const UniqueFd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
  REQUIRE(SendPacket(pair.a.get(), "one", {}).ok());
  REQUIRE(SendPacket(pair.a.get(), std::string(kPacketBytesMax, 'x'), {file.get()}).ok());
  auto first = ReceivePacket(pair.b.get());
  REQUIRE((first.ok() && first->has_value()));
  CHECK((*first)->bytes == "one");
  CHECK((*first)->fds.empty());
  auto second = ReceivePacket(pair.b.get());
  REQUIRE((second.ok() && second->has_value()));
  CHECK((*second)->bytes == std::string(kPacketBytesMax, 'x'));
  REQUIRE((*second)->fds.size() == 1);
  const int received = (*second)->fds[0].get();
  CHECK(received != file.get());
  CHECK(SameFile(received, file.get()));
  CHECK((fcntl(received, F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("Hanging up") {
  Pair pair;
  SECTION("after the last packet is read") {
    REQUIRE(SendPacket(pair.a.get(), "last", {}).ok());
    pair.a.Reset();
    CHECK((*ReceivePacket(pair.b.get()))->bytes == "last");
    CHECK(*ReceivePacket(pair.b.get()) == std::nullopt);
  }
  SECTION("without having read what was sent") {
    REQUIRE(SendPacket(pair.b.get(), "unread", {}).ok());
    pair.a.Reset();
    const auto packet = ReceivePacket(pair.b.get());
    REQUIRE(packet.ok());
    CHECK(*packet == std::nullopt);
  }
  SECTION("is a status for who sends, and no signal") {
    pair.a.Reset();
    const absl::Status status = SendPacket(pair.b.get(), "too late", {});
    CHECK(absl::IsUnavailable(status));
    CHECK(Contains(status, "hung up"));
  }
}

TEST_CASE("A socket that may not wait") {
  const Pair pair(SOCK_NONBLOCK);
  CHECK(absl::IsUnavailable(ReceivePacket(pair.a.get()).status()));
  absl::Status status;
  int sent = 0;
  for (; status.ok() && sent < 100'000; ++sent) {
    status = SendPacket(pair.a.get(), std::string(kPacketBytesMax, 'x'), {});
  }
  CHECK(sent > 1);
  CHECK(absl::IsUnavailable(status));
  CHECK(Contains(status, "queue is full"));
}

TEST_CASE("What must not be sent is refused") {
  const Pair pair;
  CHECK(absl::IsInvalidArgument(SendPacket(pair.a.get(), "", {})));
  CHECK(
      absl::IsInvalidArgument(SendPacket(pair.a.get(), std::string(kPacketBytesMax + 1, 'x'), {})));
  CHECK(absl::IsInvalidArgument(SendPacket(pair.a.get(), "x", {0, 1})));
  CHECK(absl::IsInternal(SendPacket(pair.a.get(), "x", {-1})));
  CHECK(absl::IsInternal(SendPacket(-1, "x", {})));
  CHECK(absl::IsInternal(ReceivePacket(-1).status()));
}

TEST_CASE("Packets of a hostile peer cost a status, and no descriptor") {
  const Pair pair;
  const UniqueFd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const size_t fds = OpenFds();
  SECTION("too large") {
    SendRaw(pair.a.get(), std::string(kPacketBytesMax + 1, 'x'), {file.get()});
    CHECK(Contains(ReceivePacket(pair.b.get()).status(), "more than 4096 bytes"));
  }
  SECTION("two descriptors") {
    SendRaw(pair.a.get(), "x", {file.get(), file.get()});
    CHECK(Contains(ReceivePacket(pair.b.get()).status(), "more than 1 descriptors"));
  }
  SECTION("many descriptors") {
    SendRaw(pair.a.get(), "x", std::vector<int>(64, file.get()));
    CHECK(absl::IsInvalidArgument(ReceivePacket(pair.b.get()).status()));
  }
  SECTION("nothing but a descriptor") {
    SendRaw(pair.a.get(), "", {file.get()});
    const auto packet = ReceivePacket(pair.b.get());
    REQUIRE(packet.ok());
    CHECK(*packet == std::nullopt);
  }
  CHECK(OpenFds() == fds);
  // The next one is not concerned.
  REQUIRE(SendPacket(pair.a.get(), "next", {}).ok());
  CHECK((*ReceivePacket(pair.b.get()))->bytes == "next");
}

TEST_CASE("Connecting") {
  const Directory directory;
  const std::string path = directory / "session.sock";
  const absl::StatusOr<UniqueFd> listener = ListenPacketSocket(path, 0600);
  REQUIRE(listener.ok());
  const absl::StatusOr<UniqueFd> client = ConnectPacketSocket(path);
  REQUIRE(client.ok());
  const UniqueFd server(accept4(listener->get(), nullptr, nullptr, SOCK_CLOEXEC));
  REQUIRE(server.valid());
  REQUIRE(SendPacket(client->get(), "hello", {}).ok());
  CHECK((*ReceivePacket(server.get()))->bytes == "hello");
  // The listener may not wait, and no program that is started inherits any of them.
  CHECK(accept4(listener->get(), nullptr, nullptr, SOCK_CLOEXEC) == -1);
  CHECK((fcntl(listener->get(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK((fcntl(client->get(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("Errors of connecting say what to do") {
  const Directory directory;
  const auto error = [](const std::string& path) { return ConnectPacketSocket(path).status(); };
  SECTION("nothing there") {
    const absl::Status status = error(directory / "session.sock");
    CHECK(absl::IsUnavailable(status));
    CHECK(Contains(status, "does not exist"));
    CHECK(Contains(status, "is tuttid running"));
  }
  SECTION("a daemon that has gone") {
    { const auto gone = ListenPacketSocket(directory / "session.sock", 0600); }
    const absl::Status status = error(directory / "session.sock");
    CHECK(absl::IsUnavailable(status));
    CHECK(Contains(status, "nobody listens"));
  }
  SECTION("another kind of socket") {
    const auto stream = ListenStreamSocket(directory / "grpc.sock", 0600);
    REQUIRE(stream.ok());
    CHECK(Contains(error(directory / "grpc.sock"), "not a session socket"));
  }
  SECTION("a path that is too long") {
    CHECK(Contains(error(""), "0 bytes"));
    CHECK(Contains(error("/" + std::string(kSocketPathBytesMax, 'x')), "TUTTI_SOCKET_DIR"));
    CHECK(absl::IsUnavailable(error("/" + std::string(kSocketPathBytesMax - 1, 'x'))));
  }
  SECTION("no permission") {
    const auto listener = ListenPacketSocket(directory / "session.sock", 0600);
    REQUIRE(listener.ok());
    REQUIRE(chmod(directory.path.c_str(), 0755) == 0);
    // Root may connect anywhere, so somebody else tries.
    const pid_t other = fork();
    REQUIRE(other >= 0);
    if (other == 0) {
      if (geteuid() != 0 && chmod((directory / "session.sock").c_str(), 0) != 0) _exit(2);
      if (geteuid() == 0 && setuid(65534) != 0) _exit(2);
      const absl::Status status = error(directory / "session.sock");
      _exit(absl::IsPermissionDenied(status) && Contains(status, "permission denied") ? 0 : 1);
    }
    int exit_status = -1;
    REQUIRE(waitpid(other, &exit_status, 0) == other);
    CHECK(exit_status == 0);
  }
}

TEST_CASE("The socket file has the permissions asked for, whatever the umask") {
  const Directory directory;
  const mode_t mask = GENERATE(0000, 0022, 0777);
  const mode_t mode = GENERATE(0600, 0660, 0666);
  const mode_t before = umask(mask);
  const auto listener = ListenStreamSocket(directory / "grpc.sock", mode);
  CHECK(umask(before) == mask);  // untouched
  REQUIRE(listener.ok());
  struct stat file {};
  REQUIRE(stat((directory / "grpc.sock").c_str(), &file) == 0);
  CHECK((file.st_mode & 0777) == mode);
}

TEST_CASE("Listening where something is already") {
  const Directory directory;
  const std::string path = directory / "session.sock";
  SECTION("a stale socket is replaced") {
    { const auto gone = ListenPacketSocket(path, 0600); }
    const auto listener = ListenPacketSocket(path, 0600);
    CHECK(listener.ok());
    CHECK(ConnectPacketSocket(path).ok());
  }
  SECTION("a file is not") {
    const UniqueFd file(open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    REQUIRE(file.valid());
    CHECK(absl::IsAlreadyExists(ListenPacketSocket(path, 0600).status()));
    CHECK(access(path.c_str(), F_OK) == 0);
  }
  SECTION("nor a link, which would lead elsewhere") {
    REQUIRE(symlink("/tmp/elsewhere", path.c_str()) == 0);
    CHECK(absl::IsAlreadyExists(ListenPacketSocket(path, 0600).status()));
  }
  SECTION("no directory") {
    CHECK(absl::IsNotFound(ListenPacketSocket(directory / "none/session.sock", 0600).status()));
  }
  SECTION("a path too long") {
    const std::string longest =
        directory.path + "/" + std::string(kSocketPathBytesMax - directory.path.size() - 1, 'x');
    CHECK(ListenPacketSocket(longest, 0600).ok());
    CHECK(absl::IsInvalidArgument(ListenPacketSocket(longest + "x", 0600).status()));
  }
}

TEST_CASE("Failures leave no descriptor behind") {
  const Directory directory;
  const size_t fds = OpenFds();
  CHECK(!ListenPacketSocket(directory / "none/session.sock", 0600).ok());
  CHECK(!ConnectPacketSocket(directory / "session.sock").ok());
  CHECK(OpenFds() == fds);
}

}  // namespace
}  // namespace tutti
