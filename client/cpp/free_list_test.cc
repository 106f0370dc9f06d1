#include "client/cpp/free_list.h"

#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <vector>

namespace tutti {
namespace {

TEST_CASE("all is free at first, and again when all is given back") {
  FreeList list(1000);
  CHECK(list.AllFree());
  const auto a = list.Take(600);
  const auto b = list.Take(400);
  REQUIRE(a.has_value());
  REQUIRE(b.has_value());
  CHECK_FALSE(list.AllFree());
  CHECK_FALSE(list.Take(1).has_value());
  list.Give(*a, 600);
  CHECK_FALSE(list.AllFree());
  list.Give(*b, 400);
  CHECK(list.AllFree());
}

TEST_CASE("the smallest range that fits is taken") {
  FreeList list(1000);
  const auto large = list.Take(500);
  const auto wall = list.Take(100);
  const auto small = list.Take(200);
  const auto end = list.Take(200);
  REQUIRE((large && wall && small && end));
  list.Give(*large, 500);
  list.Give(*small, 200);
  CHECK(list.Take(150) == small);
  CHECK(list.Take(300) == large);
}

TEST_CASE("neighbours are joined, on either side") {
  FreeList list(300);
  const auto a = list.Take(100);
  const auto b = list.Take(100);
  const auto c = list.Take(100);
  REQUIRE((a && b && c));
  list.Give(*a, 100);
  list.Give(*c, 100);
  CHECK_FALSE(list.Take(200).has_value());
  list.Give(*b, 100);
  CHECK(list.Take(300).has_value());
}

// Against a plain array of what is taken.
TEST_CASE("thousands of random steps never hand out a byte twice, and lose none") {
  std::mt19937 random(7);
  constexpr size_t kSize = 512;
  FreeList list(kSize);
  std::vector<bool> taken(kSize, false);
  std::map<size_t, size_t> blocks;
  for (int step = 0; step < 20000; ++step) {
    if (random() % 2 == 0) {
      const size_t bytes = 1 + random() % 64;
      if (const auto offset = list.Take(bytes)) {
        REQUIRE(*offset + bytes <= kSize);
        for (size_t i = *offset; i < *offset + bytes; ++i) {
          REQUIRE_FALSE(taken[i]);
          taken[i] = true;
        }
        blocks[*offset] = bytes;
      }
    } else if (!blocks.empty()) {
      auto it = blocks.begin();
      std::advance(it, random() % blocks.size());
      for (size_t i = it->first; i < it->first + it->second; ++i) taken[i] = false;
      list.Give(it->first, it->second);
      blocks.erase(it);
    }
  }
  for (const auto& [offset, bytes] : blocks) list.Give(offset, bytes);
  CHECK(list.AllFree());
}

}  // namespace
}  // namespace tutti
