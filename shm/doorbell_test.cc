#include "shm/doorbell.h"

#include <fcntl.h>
#include <poll.h>

#include <catch2/catch.hpp>

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

}  // namespace
}  // namespace tutti
