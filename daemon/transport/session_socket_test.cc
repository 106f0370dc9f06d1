// Session sockets over real socket pairs, with the real core stepped by hand.
#include "daemon/transport/session_socket.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/version.h"
#include "daemon/core/testing/core_fixture.h"
#include "daemon/transport/session_sockets.h"
#include "daemon/transport/testing/manual_watcher.h"
#include "shm/packet.h"

namespace tutti {
namespace {

struct World {
  explicit World(size_t sockets_max = 100)
      : rings({.core = test.core.get(),
               .watcher = &watcher,
               .loop = &test.loop,
               .spin_us = 5,
               .end_session = [this](SessionId session,
                                     const Failure& failure) { sockets.End(session, failure); }}),
        sockets({.core = test.core.get(),
                 .loop = &test.loop,
                 .watcher = &watcher,
                 .clock = &test.clock,
                 .tokens = &tokens,
                 .rings = &rings,
                 .incarnation = "0123456789abcdef",
                 .works_in_flight_max = 16,
                 .join_timeout_ms = 17},
                sockets_max) {}
  ~World() { sockets.EndAll({.cause = Cause::kDraining, .message = "end"}); }

  void Settle() {
    for (int i = 0; i < 4; ++i) {
      watcher.Turn();
      test.Settle();
    }
  }

  TestCore test;
  ManualWatcher watcher;
  int drawn = 0;
  TokenTable tokens{[this](void* bytes, size_t size) { memset(bytes, ++drawn, size); }};
  RingLanes rings;
  SessionSockets sockets;
};

// The other end.
class Peer {
 public:
  explicit Peer(World* world) : world_(world) {
    std::array<int, 2> ends{};
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) ==
            0);
    socket.Reset(ends[0]);
    world->sockets.Accept(UniqueFd(ends[1]));
    world->Settle();
  }

  void Send(const v1::SessionRequest& request) const {
    REQUIRE(SendPacket(socket.get(), request.SerializeAsString(), {}).ok());
  }
  // The next reply, if there is one.
  std::optional<v1::SessionReply> Receive() {
    world_->Settle();
    absl::StatusOr<std::optional<Packet>> packet = ReceivePacket(socket.get());
    if (!packet.ok() || !packet->has_value()) return std::nullopt;
    if (!(*packet)->fds.empty()) file = std::move((*packet)->fds[0]);
    v1::SessionReply reply;
    REQUIRE(reply.ParseFromString((*packet)->bytes));
    return reply;
  }
  v1::SessionReply Ask(const v1::SessionRequest& request) {
    Send(request);
    const std::optional<v1::SessionReply> reply = Receive();
    REQUIRE(reply.has_value());
    CHECK(reply->request_id() == request.request_id());
    return *reply;
  }
  bool HasEnded() {
    world_->Settle();
    const auto packet = ReceivePacket(socket.get());
    return packet.ok() && !packet->has_value();
  }
  v1::SessionReply Hello() {
    v1::SessionRequest request;
    request.set_request_id(1);
    request.mutable_hello()->set_protocol_version(kProtocolVersion);
    request.mutable_hello()->set_label("peer");
    return Ask(request);
  }
  // Seals the group's fate: rank 0 is this peer's.
  void Join(SessionId session) const {
    world_->test.core->Join(session, {.group = "dp", .rank = 0, .world_size = 2},
                            [](const Result<Joined>& joined) { CHECK(joined.ok()); });
    world_->test.Settle();
  }

  UniqueFd socket;
  UniqueFd file;

 private:
  World* const world_;
};

v1::SessionRequest CreateArena(uint64_t size) {
  v1::SessionRequest request;
  request.set_request_id(2);
  request.mutable_create_arena()->set_size_bytes(size);
  return request;
}

v1::SessionRequest Goodbye() {
  v1::SessionRequest request;
  request.mutable_goodbye();
  return request;
}

size_t SessionsOf(World* world) {
  world->test.Advance(kSnapshotPeriod);
  return world->test.core->snapshot()->sessions.size();
}

TEST_CASE("Hello makes a session, with a token, who it is and what it calls itself") {
  World world;
  Peer peer(&world);
  const v1::SessionReply reply = peer.Hello();
  REQUIRE(reply.has_welcome());
  const v1::Welcome& welcome = reply.welcome();
  CHECK(welcome.session_id() == 1);
  CHECK(world.tokens.Find(welcome.token()) == SessionId{1});
  CHECK(welcome.protocol_version() == kProtocolVersion);
  CHECK(welcome.daemon_version() == kVersion);
  CHECK(welcome.incarnation() == "0123456789abcdef");
  CHECK(welcome.works_in_flight_max() == 16);
  CHECK(welcome.join_timeout_ms() == 17);
  REQUIRE(SessionsOf(&world) == 1);
  const SessionSnapshot session = world.test.core->snapshot()->sessions[0];
  CHECK(session.pid == static_cast<uint32_t>(getpid()));
  CHECK(session.uid == geteuid());
  CHECK(session.label == "peer");
}

TEST_CASE("another protocol is refused, naming both") {
  World world;
  Peer peer(&world);
  v1::SessionRequest request;
  request.set_request_id(9);
  request.mutable_hello()->set_protocol_version(77);
  const v1::SessionReply reply = peer.Ask(request);
  CHECK(reply.failure().cause() == v1::CAUSE_UNSUPPORTED);
  CHECK(reply.failure().message().find("protocol 77") != std::string::npos);
  CHECK(reply.failure().message().find("protocol 1") != std::string::npos);
  CHECK(peer.HasEnded());
  CHECK(world.sockets.count() == 0);
  CHECK(world.watcher.count() == 0);
}

TEST_CASE("what breaks the protocol is refused with a reason, and ends the session") {
  World world;
  Peer peer(&world);
  bool hello = true;
  std::string bytes;
  std::vector<int> fds;
  SECTION("no Hello first") {
    hello = false;
    bytes = CreateArena(4096).SerializeAsString();
  }
  SECTION("a second Hello") {
    v1::SessionRequest request;
    request.mutable_hello()->set_protocol_version(kProtocolVersion);
    bytes = request.SerializeAsString();
  }
  SECTION("garbage") { bytes = "\xff\xff\xff\xff garbage"; }
  SECTION("a request that nobody knows") { bytes = std::string("\x08\x07\x7a\x00", 4); }
  SECTION("a descriptor that nobody asked for") {
    bytes = CreateArena(4096).SerializeAsString();
    fds = {STDIN_FILENO};
  }
  if (hello) REQUIRE(peer.Hello().has_welcome());
  REQUIRE(SendPacket(peer.socket.get(), bytes, fds).ok());
  const auto reply = peer.Receive();
  REQUIRE(reply.has_value());
  CHECK(reply->failure().cause() == v1::CAUSE_PROTOCOL);
  CHECK(peer.HasEnded());
  CHECK(SessionsOf(&world) == 0);
  CHECK(world.sockets.count() == 0);
}

TEST_CASE("a packet that is too large ends the session") {
  World world;
  Peer peer(&world);
  REQUIRE(peer.Hello().has_welcome());
  const std::string large(kPacketBytesMax + 1, 'x');
  REQUIRE(send(peer.socket.get(), large.data(), large.size(), MSG_NOSIGNAL) > 0);
  const auto reply = peer.Receive();
  REQUIRE(reply.has_value());
  CHECK(reply->failure().cause() == v1::CAUSE_PROTOCOL);
  CHECK(peer.HasEnded());
}

TEST_CASE("no Hello in time is refused; a Hello in time is not") {
  World world;
  Peer silent(&world);
  Peer speaking(&world);
  REQUIRE(speaking.Hello().has_welcome());
  world.test.Advance(kHelloTimeout - absl::Milliseconds(1));
  CHECK(world.sockets.count() == 2);
  world.test.Advance(absl::Milliseconds(1));
  const auto reply = silent.Receive();
  REQUIRE(reply.has_value());
  CHECK(reply->request_id() == 0);
  CHECK(reply->failure().cause() == v1::CAUSE_PROTOCOL);
  CHECK(silent.HasEnded());
  CHECK(world.sockets.count() == 1);
}

TEST_CASE("an arena is created, mapped and released; its memfd comes with the reply") {
  World world;
  Peer peer(&world);
  REQUIRE(peer.Hello().has_welcome());
  const v1::SessionReply created = peer.Ask(CreateArena(8192));
  REQUIRE(created.has_arena_created());
  REQUIRE(peer.file.valid());
  struct stat info {};
  REQUIRE(fstat(peer.file.get(), &info) == 0);
  CHECK(info.st_size == 8192);

  v1::SessionRequest mapped;
  mapped.set_request_id(3);
  mapped.mutable_arena_mapped()->set_arena(created.arena_created().arena());
  SECTION("after the client has allocated it") {
    REQUIRE(posix_fallocate(peer.file.get(), 0, 8192) == 0);
    const v1::SessionReply ready = peer.Ask(mapped);
    REQUIRE(ready.has_arena_ready());
    CHECK(ready.arena_ready().arena() == created.arena_created().arena());
    v1::SessionRequest release;
    release.set_request_id(4);
    release.mutable_release_arena()->set_arena(created.arena_created().arena());
    CHECK(peer.Ask(release).has_arena_released());
    CHECK(peer.Ask(release).failure().cause() == v1::CAUSE_NOT_FOUND);
  }
  SECTION("but not before, and the session goes on") {
    CHECK(peer.Ask(mapped).failure().cause() == v1::CAUSE_INVALID);
    CHECK(peer.Ask(CreateArena(4096)).has_arena_created());
  }
  SECTION("a reply whose socket has gone is dropped") {
    peer.Send(mapped);
    world.watcher.Turn();
    peer.socket.Reset();
    world.Settle();
    CHECK(world.sockets.count() == 0);
  }
  CHECK(peer.file.valid());
}

TEST_CASE("a limit is a reply, not the end") {
  World world;
  Peer peer(&world);
  REQUIRE(peer.Hello().has_welcome());
  const v1::SessionReply reply = peer.Ask(CreateArena(uint64_t{1} << 40));
  CHECK(reply.failure().cause() == v1::CAUSE_LIMIT);
  CHECK(reply.failure().code() == static_cast<int>(absl::StatusCode::kResourceExhausted));
  CHECK(peer.Ask(CreateArena(4096)).has_arena_created());
}

TEST_CASE("how a session ends is what the others are told") {
  World world;
  Peer peer(&world);
  const SessionId session = peer.Hello().welcome().session_id();
  TestClient other(&world.test);
  world.test.core->Join(other.session, {.group = "dp", .rank = 1, .world_size = 2},
                        [](const Result<Joined>&) {});
  peer.Join(session);
  Cause expected = Cause::kRankDied;
  SECTION("hang-up") { peer.socket.Reset(); }
  SECTION("goodbye") {
    expected = Cause::kSessionClosed;
    peer.Send(Goodbye());
    SECTION("and then it waits") {}
    SECTION("and then it is gone") { peer.socket.Reset(); }
  }
  SECTION("goodbye, gone without having read its last reply") {
    expected = Cause::kSessionClosed;
    peer.Send(CreateArena(4096));
    world.Settle();
    peer.Send(Goodbye());
    peer.socket.Reset();
  }
  SECTION("goodbye after more packets than one turn takes") {
    expected = Cause::kSessionClosed;
    for (int i = 0; i < 60; ++i) peer.Send(CreateArena(1));
    peer.Send(Goodbye());
    peer.socket.Reset();
    for (int i = 0; i < 10; ++i) world.Settle();
  }
  world.Settle();
  CHECK(world.sockets.count() == 0);
  REQUIRE(world.test.Group("dp") != nullptr);
  REQUIRE(world.test.Group("dp")->failure.has_value());
  CHECK(world.test.Group("dp")->failure->cause == expected);
  CHECK(world.test.Group("dp")->failure->culprits == std::vector<Rank>{0});
}

TEST_CASE("the token is worth nothing after the session") {
  World world;
  Peer peer(&world);
  const std::string token = peer.Hello().welcome().token();
  peer.socket.Reset();
  world.Settle();
  CHECK_FALSE(world.tokens.Find(token).has_value());
}

TEST_CASE("a client that does not read its replies is closed; the loop does not wait") {
  World world;
  Peer peer(&world);
  REQUIRE(peer.Hello().has_welcome());
  int sent = 0;
  while (world.sockets.count() == 1 && sent < 100'000) {
    if (SendPacket(peer.socket.get(), CreateArena(1).SerializeAsString(), {}).ok()) ++sent;
    world.Settle();
  }
  CHECK(world.sockets.count() == 0);
  CHECK(sent < 100'000);
  CHECK(SessionsOf(&world) == 0);
}

TEST_CASE("the transport may end a session, and tells the client why") {
  World world;
  Peer peer(&world);
  Peer other(&world);
  const SessionId session = peer.Hello().welcome().session_id();
  REQUIRE(other.Hello().has_welcome());
  world.sockets.End(session, {.cause = Cause::kProtocol, .message = "a gap in the numbers"});
  world.sockets.End(session, {.cause = Cause::kProtocol, .message = "again"});
  const auto reply = peer.Receive();
  REQUIRE(reply.has_value());
  CHECK(reply->request_id() == 0);
  CHECK(reply->failure().message() == "a gap in the numbers");
  CHECK(peer.HasEnded());
  CHECK(world.sockets.count() == 1);
}

TEST_CASE("a refused client gets its failure even if it went on sending") {
  World world;
  Peer peer(&world);
  REQUIRE(peer.Hello().has_welcome());
  REQUIRE(SendPacket(peer.socket.get(), "\xff garbage", {}).ok());
  for (int i = 0; i < 40; ++i) peer.Send(CreateArena(4096));
  const auto reply = peer.Receive();
  REQUIRE(reply.has_value());
  CHECK(reply->has_failure());
  CHECK(peer.HasEnded());
}

TEST_CASE("a failure with a very long text fits a packet, and stays UTF-8") {
  World world;
  Peer peer(&world);
  const SessionId session = peer.Hello().welcome().session_id();
  Failure failure{.cause = Cause::kLimit, .message = std::string(1, 'x')};
  for (int i = 0; i < 3000; ++i) failure.message += "\xc3\xa4";
  for (Rank rank = 0; rank < 3000; ++rank) failure.culprits.push_back(rank);
  world.sockets.End(session, failure);
  const auto reply = peer.Receive();
  REQUIRE(reply.has_value());
  CHECK(reply->failure().message().size() > 1000);
}

TEST_CASE("beyond the bound of sockets, connections are closed at once; then there is room again") {
  World world(2);
  Peer a(&world);
  Peer b(&world);
  Peer c(&world);
  CHECK(c.HasEnded());
  REQUIRE(a.Hello().has_welcome());
  REQUIRE(b.Hello().has_welcome());
  a.socket.Reset();
  world.Settle();
  Peer d(&world);
  CHECK(d.Hello().has_welcome());
}

TEST_CASE("a socket that cannot be watched is refused") {
  World world;
  world.watcher.full = true;
  Peer peer(&world);
  const auto reply = peer.Receive();
  REQUIRE(reply.has_value());
  CHECK(reply->failure().cause() == v1::CAUSE_LIMIT);
  CHECK(world.sockets.count() == 0);
}

}  // namespace
}  // namespace tutti
