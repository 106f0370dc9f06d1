#include "daemon/core/footprint.h"

#include <array>
#include <catch2/catch.hpp>
#include <random>

namespace tutti {
namespace {

std::array<std::byte, 64> memory;

Buffer At(size_t first, size_t size) { return {memory.data() + first, size}; }

TEST_CASE("works collide where one writes what the other touches") {
  const Footprint reads({.inputs = {At(0, 8)}});
  const Footprint writes({.outputs = {At(4, 8)}});
  const Footprint after({.outputs = {At(12, 4)}});
  CHECK(Footprint::Collide(reads, writes));
  CHECK(Footprint::Collide(writes, reads));
  CHECK(Footprint::Collide(writes, writes));
  CHECK_FALSE(Footprint::Collide(reads, reads));
  CHECK_FALSE(Footprint::Collide(writes, after));
  CHECK_FALSE(Footprint::Collide(writes, Footprint()));
  CHECK_FALSE(Footprint::Collide(Footprint(), Footprint()));
}

bool Overlap(const Buffer& a, const Buffer& b) {
  return a.size_bytes > 0 && b.size_bytes > 0 && a.data < b.data + b.size_bytes &&
         b.data < a.data + a.size_bytes;
}

// Some ranges, empty ones among them.
Buffers Random(std::minstd_rand* random, bool apart) {
  Buffers buffers;
  for (size_t i = (*random)() % 5; i > 0; --i) {
    const Buffer buffer = At((*random)() % 56, (*random)() % 8);
    bool fits = true;
    for (const Buffer& other : buffers) fits = fits && !(apart && Overlap(buffer, other));
    if (fits) buffers.push_back(buffer);
  }
  return buffers;
}

bool AnyPair(const Buffers& some, const Buffers& others) {
  for (const Buffer& a : some) {
    for (const Buffer& b : others) {
      if (Overlap(a, b)) return true;
    }
  }
  return false;
}

TEST_CASE("one pass finds what comparing all pairs finds") {
  std::minstd_rand random(1);
  int collisions = 0;
  for (int round = 0; round < 20000; ++round) {
    const Participant a{.inputs = Random(&random, false), .outputs = Random(&random, true)};
    const Participant b{.inputs = Random(&random, false), .outputs = Random(&random, true)};
    const bool want = AnyPair(a.outputs, b.outputs) || AnyPair(a.inputs, b.outputs) ||
                      AnyPair(a.outputs, b.inputs);
    collisions += want ? 1 : 0;
    REQUIRE(Footprint::Collide(Footprint(a), Footprint(b)) == want);
    const bool self = AnyPair(a.inputs, a.outputs);
    // Identical buffers at one place are allowed, and too rare here to matter: they are below.
    if (!self)
      REQUIRE_FALSE(Footprint(a).FindSelfOverlap(CollectiveKind::kAllreduce, 0).has_value());
  }
  CHECK(collisions > 1000);
  CHECK(collisions < 19000);
}

TEST_CASE("outputs are apart, and lie on no input but their own") {
  const auto find = [](CollectiveKind kind, Buffers inputs, Buffers outputs) {
    const Footprint footprint({.inputs = std::move(inputs), .outputs = std::move(outputs)});
    return footprint.FindSelfOverlap(kind, /*rank=*/1);
  };
  const auto kAllreduce = CollectiveKind::kAllreduce;
  CHECK_FALSE(find(kAllreduce, {At(0, 4), At(8, 4)}, {At(0, 4), At(8, 4)}).has_value());
  // Crossed, shifted, of another length, and twice the same output.
  CHECK(find(kAllreduce, {At(0, 4), At(8, 4)}, {At(8, 4), At(0, 4)}).has_value());
  CHECK(find(kAllreduce, {At(0, 4)}, {At(2, 4)}).has_value());
  CHECK(find(kAllreduce, {At(0, 4)}, {At(0, 8)}).has_value());
  const auto twice = find(kAllreduce, {At(0, 4), At(8, 4)}, {At(20, 4), At(22, 4)});
  REQUIRE(twice.has_value());
  CHECK_FALSE(twice->other_is_input);
  const auto kAllgather = CollectiveKind::kAllgather;
  CHECK_FALSE(find(kAllgather, {At(4, 4)}, {At(0, 4), At(4, 4)}).has_value());
  const auto wrong = find(kAllgather, {At(0, 4)}, {At(0, 4), At(4, 4)});
  REQUIRE(wrong.has_value());
  CHECK(wrong->other_is_input);
  CHECK(wrong->output == 0);
  // The same input twice is only read.
  CHECK_FALSE(find(CollectiveKind::kAllToAll, {At(0, 4), At(0, 4)}, {At(8, 4), At(12, 4)}));
  CHECK_FALSE(find(kAllreduce, {At(0, 0)}, {At(0, 0)}).has_value());
}

}  // namespace
}  // namespace tutti
