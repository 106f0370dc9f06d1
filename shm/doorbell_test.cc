#include "shm/doorbell.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>

#include "base/unique_fd.h"
#include "shm/no_descriptors.h"
#include "shm/packet.h"

namespace tutti {
namespace {

DoorbellPair MustMake() {
  auto pair = MakeDoorbell();
  REQUIRE(pair.ok());
  return *std::move(pair);
}

bool Rings(int doorbell) {
  pollfd waited{.fd = doorbell, .events = POLLIN, .revents = 0};
  return poll(&waited, 1, 0) == 1;
}

TEST_CASE("a doorbell rings at the other end until it is silenced") {
  const DoorbellPair pair = MustMake();
  CHECK_FALSE(Rings(pair.ours.get()));
  CHECK(SilenceDoorbell(pair.ours.get()));
  RingDoorbell(pair.theirs.get());
  RingDoorbell(pair.theirs.get());
  CHECK(Rings(pair.ours.get()));
  CHECK_FALSE(Rings(pair.theirs.get()));
  CHECK(SilenceDoorbell(pair.ours.get()));
  CHECK_FALSE(Rings(pair.ours.get()));
}

TEST_CASE("a peer that never silences its end, and makes its calls wait, stops nobody") {
  const DoorbellPair pair = MustMake();
  // Of the file that our end is not a copy of.
  REQUIRE(fcntl(pair.theirs.get(), F_SETFL, 0) == 0);
  for (int i = 0; i < 100000; ++i) RingDoorbell(pair.ours.get());
  CHECK(Rings(pair.theirs.get()));
  CHECK(SilenceDoorbell(pair.ours.get()));
}

TEST_CASE("who hangs up rings, and is not rung") {
  DoorbellPair pair = MustMake();
  RingDoorbell(pair.theirs.get());
  pair.theirs.Reset();
  CHECK(Rings(pair.ours.get()));
  CHECK(SilenceDoorbell(pair.ours.get()));  // what was rung before
  CHECK_FALSE(SilenceDoorbell(pair.ours.get()));
  RingDoorbell(pair.ours.get());  // no SIGPIPE
}

TEST_CASE("nobody can pass a descriptor to a doorbell, or to who listens") {
  const DoorbellPair pair = MustMake();
  if (!RefuseDescriptors(pair.ours.get())) {
    WARN("this kernel (before 6.16) can't refuse descriptors");
    return;
  }
  const int passed = pair.theirs.get();
  CHECK(SendPacket(pair.theirs.get(), "x", {passed}).code() != absl::StatusCode::kOk);
  CHECK(SilenceDoorbell(pair.ours.get()));
  CHECK_FALSE(Rings(pair.ours.get()));
  const std::string path = "/tmp/tutti-doorbell-" + std::to_string(getpid());
  const auto listening = ListenPacketSocket(path, 0600);
  REQUIRE(listening.ok());
  const auto client = ConnectPacketSocket(path);
  unlink(path.c_str());
  REQUIRE(client.ok());
  CHECK(SendPacket(client->get(), "x", {passed}).code() != absl::StatusCode::kOk);
  const UniqueFd accepted(accept(listening->get(), nullptr, nullptr));
  REQUIRE(accepted.valid());
  CHECK(SendPacket(client->get(), "x", {passed}).code() != absl::StatusCode::kOk);
  CHECK(SendPacket(accepted.get(), "x", {passed}).ok());
}

}  // namespace
}  // namespace tutti
