#include "daemon/transport/acceptor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <deque>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "shm/packet.h"

namespace tutti {
namespace {

// What an acceptor hands on, for the test's thread to wait for.
class Inbox {
 public:
  void Put(UniqueFd fd) {
    MutexLock lock(&mutex_);
    connections_.push_back(std::move(fd));
    changed_.Signal();
  }
  UniqueFd Take() {
    MutexLock lock(&mutex_);
    while (connections_.empty()) changed_.Wait(&mutex_);
    UniqueFd fd = std::move(connections_.front());
    connections_.pop_front();
    return fd;
  }
  bool empty() {
    MutexLock lock(&mutex_);
    return connections_.empty();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::deque<UniqueFd> connections_ ABSL_GUARDED_BY(mutex_);
};

class Directory {
 public:
  Directory() {
    std::string name = "/tmp/tutti-accept-XXXXXX";
    path_ = mkdtemp(name.data());
  }
  ~Directory() {
    for (const char* name : {"/a", "/b"}) unlink((path_ + name).c_str());
    rmdir(path_.c_str());
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

std::unique_ptr<Acceptor> Start(const Clock* clock, const std::string& path, Inbox* inbox) {
  std::vector<Listener> listeners;
  listeners.push_back({"test", *ListenPacketSocket(path, 0600),
                       [inbox](UniqueFd fd) { inbox->Put(std::move(fd)); }});
  return *Acceptor::Start(clock, std::move(listeners));
}

bool HasHungUp(int socket) {
  pollfd state{};
  state.fd = socket;
  state.events = POLLIN;
  char byte = 0;
  return poll(&state, 1, 10'000) == 1 && recv(socket, &byte, 1, 0) == 0;
}

TEST_CASE("connections are handed on, non-blocking and close-on-exec, per listener") {
  const RealClock clock;
  const Directory directory;
  Inbox a;
  Inbox b;
  std::vector<Listener> listeners;
  listeners.push_back({"a", *ListenPacketSocket(directory / "a", 0600),
                       [&](UniqueFd fd) { a.Put(std::move(fd)); }});
  listeners.push_back({"b", *ListenStreamSocket(directory / "b", 0600),
                       [&](UniqueFd fd) { b.Put(std::move(fd)); }});
  const auto acceptor = *Acceptor::Start(&clock, std::move(listeners));
  for (int i = 0; i < 100; ++i) {
    const auto client = ConnectPacketSocket(directory / "a");
    REQUIRE(client.ok());
    const UniqueFd connection = a.Take();
    CHECK((fcntl(connection.get(), F_GETFL) & O_NONBLOCK) != 0);
    CHECK((fcntl(connection.get(), F_GETFD) & FD_CLOEXEC) != 0);
    REQUIRE(SendPacket(client->get(), "hello", {}).ok());
    CHECK((*ReceivePacket(connection.get()))->bytes == "hello");
  }
  CHECK(b.empty());
}

TEST_CASE("without descriptors left, clients are turned away at once; with some, all is well") {
  const RealClock clock;
  const Directory directory;
  Inbox inbox;
  const auto acceptor = Start(&clock, directory / "a", &inbox);

  // Clients' ends are made before: they count as well. Connecting itself takes no descriptor.
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 200; ++i) {
    clients.emplace_back(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  }
  std::vector<UniqueFd> fillers;
  rlimit small = before;
  small.rlim_cur = static_cast<rlim_t>(clients.back().get() + 1);
  REQUIRE(setrlimit(RLIMIT_NOFILE, &small) == 0);
  while (true) {
    UniqueFd filler(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!filler.valid()) break;
    fillers.push_back(std::move(filler));
  }
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (directory / "a").copy(address.sun_path, sizeof(address.sun_path) - 1);
  const MonotonicTime start = clock.Now();
  for (const UniqueFd& client : clients) {
    REQUIRE(connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) ==
            0);
    CHECK(HasHungUp(client.get()));
  }
  CHECK(acceptor->turned_away() == clients.size());
  // Without a pause for each, which would be 20 seconds.
  CHECK(clock.Now() - start < absl::Seconds(10));
  CHECK(inbox.empty());

  fillers.clear();
  REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
  const auto client = ConnectPacketSocket(directory / "a");
  REQUIRE(client.ok());
  CHECK(inbox.Take().valid());
}

TEST_CASE("destroying it ends the listening sockets") {
  const RealClock clock;
  const Directory directory;
  Inbox inbox;
  Start(&clock, directory / "a", &inbox).reset();
  CHECK_FALSE(ConnectPacketSocket(directory / "a").ok());
}

}  // namespace
}  // namespace tutti
