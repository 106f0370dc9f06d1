#include "daemon/transport/failure_slots.h"

#include <catch2/catch.hpp>

#include "absl/strings/str_cat.h"

namespace tutti {
namespace {

TEST_CASE("works that fail of one failure share its slot") {
  FailureSlots slots;
  const auto first = slots.Find("rank 3 died", 0, 0);
  REQUIRE(first.has_value());
  CHECK(first->write);
  const auto second = slots.Find("rank 3 died", 1, 0);
  REQUIRE(second.has_value());
  CHECK(second->slot == first->slot);
  CHECK_FALSE(second->write);
  const auto other = slots.Find("rank 4 died", 2, 0);
  REQUIRE(other.has_value());
  CHECK(other->slot != first->slot);
  CHECK(other->write);
}

TEST_CASE("a slot is free when the last completion that named it has been taken") {
  FailureSlots slots;
  for (uint64_t i = 0; i < kRingFailureSlots; ++i) {
    REQUIRE(slots.Find(absl::StrCat("failure ", i), i, 0).has_value());
  }
  CHECK_FALSE(slots.Find("one more", 16, 0).has_value());
  // Slot 0 is needed for longer.
  REQUIRE(slots.Find("failure 0", 16, 0).has_value());
  CHECK_FALSE(slots.Find("one more", 17, 1).has_value());
  const auto place = slots.Find("one more", 17, 2);
  REQUIRE(place.has_value());
  CHECK(place->write);
  CHECK_FALSE(slots.Find("yet one", 18, 2).has_value());
  CHECK(slots.Find("yet one", 18, 3).has_value());
  // What was overwritten has to be written again.
  CHECK(slots.Find("failure 1", 19, 19)->write);
}

}  // namespace
}  // namespace tutti
