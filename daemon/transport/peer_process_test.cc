#include "daemon/transport/peer_process.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <string>

#include "shm/packet.h"

namespace tutti {
namespace {

// Ready within ten seconds, or now.
bool IsReadable(int fd, int timeout_ms) {
  pollfd state{};
  state.fd = fd;
  state.events = POLLIN;
  return poll(&state, 1, timeout_ms) == 1;
}

TEST_CASE("the kernel tells who is at the other end") {
  std::array<int, 2> ends{};
  REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
  const UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  const auto peer = IdentifyPeer(ours.get());
  REQUIRE(peer.ok());
  CHECK(peer->pid == static_cast<uint32_t>(getpid()));
  CHECK(peer->uid == geteuid());
  REQUIRE(peer->pidfd.valid());
  CHECK_FALSE(IsReadable(peer->pidfd.get(), 0));
}

TEST_CASE("a process that ends is noticed although its child still holds the socket") {
  std::array<char, 32> directory{"/tmp/tutti-peer-XXXXXX"};
  REQUIRE(mkdtemp(directory.data()) != nullptr);
  const std::string path = std::string(directory.data()) + "/s";
  const auto listener = ListenPacketSocket(path, 0600);
  REQUIRE(listener.ok());
  // The grandchild ends when the pipe closes.
  std::array<int, 2> hold{};
  REQUIRE(pipe(hold.data()) == 0);
  std::array<int, 2> release{};
  REQUIRE(pipe(release.data()) == 0);
  const pid_t child = fork();
  if (child == 0) {
    close(hold[1]);
    char byte = 0;
    const auto socket = ConnectPacketSocket(path);
    if (!socket.ok()) _exit(1);
    if (fork() == 0) {
      (void)!read(hold[0], &byte, 1);
      _exit(0);
    }
    (void)!read(release[0], &byte, 1);
    _exit(0);
  }
  REQUIRE(IsReadable(listener->get(), 10'000));
  const UniqueFd connection(accept4(listener->get(), nullptr, nullptr, SOCK_CLOEXEC));
  const auto peer = IdentifyPeer(connection.get());
  REQUIRE(peer.ok());
  CHECK(peer->pid == static_cast<uint32_t>(child));
  REQUIRE(peer->pidfd.valid());
  CHECK_FALSE(IsReadable(peer->pidfd.get(), 0));
  REQUIRE(write(release[1], "x", 1) == 1);
  CHECK(IsReadable(peer->pidfd.get(), 10'000));
  CHECK_FALSE(IsReadable(connection.get(), 0));
  close(hold[1]);
  CHECK(IsReadable(connection.get(), 10'000));
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  for (const int fd : {hold[0], release[0], release[1]}) close(fd);
  unlink(path.c_str());
  rmdir(directory.data());
}

}  // namespace
}  // namespace tutti
