#include "shm/spin.h"

#include <catch2/catch.hpp>
#include <vector>

namespace tutti {
namespace {

// Waits for something that never comes, in yields of `yield_ns`; returns how many there were.
int YieldsOf(Spin* spin, uint64_t yield_ns) {
  static uint64_t now_ns = 1000;
  int yields = 0;
  spin->Start(now_ns);
  while (spin->MayYield(now_ns)) {
    ++yields;
    now_ns += yield_ns;
  }
  return yields;
}

TEST_CASE("a wait yields until the budget is spent") {
  Spin spin(10'000);
  CHECK(YieldsOf(&spin, 1000) == 10);
  CHECK(YieldsOf(&spin, 1000) == 10);
  CHECK(YieldsOf(&spin, 1900) == 6);
}

TEST_CASE("the time of other threads is not counted") {
  Spin spin(10'000);
  const int switches = YieldsOf(&spin, 2'000);
  CHECK(YieldsOf(&spin, 5'000) == switches);
  CHECK(YieldsOf(&spin, 40'000) == switches);
  CHECK(YieldsOf(&spin, 1000) == 10);
}

TEST_CASE("without a budget nothing yields") {
  Spin spin(0);
  CHECK(YieldsOf(&spin, 1) == 0);
}

TEST_CASE(
    "a yield that takes several times the budget makes later waits sleep at once, ever more") {
  Spin spin(10'000);
  std::vector<int> sleeping;  // waits in a row that did not yield
  int row = 0;
  while (sleeping.size() < 9) {
    if (YieldsOf(&spin, 40'001) == 0) {
      ++row;
    } else {
      sleeping.push_back(row);
      row = 0;
    }
  }
  CHECK(sleeping == std::vector<int>{0, 1, 2, 4, 8, 16, 32, 64, 64});
}

TEST_CASE("yielding that succeeds makes up for it") {
  Spin spin(10'000);
  for (int i = 0; i < 40; ++i) YieldsOf(&spin, 40'001);
  while (YieldsOf(&spin, 1000) == 0) {
  }
  for (int i = 0; i < 10; ++i) {
    spin.Start(0);
    CHECK(spin.MayYield(0));
    spin.Succeeded();
  }
  CHECK(YieldsOf(&spin, 40'001) == 1);
  CHECK(YieldsOf(&spin, 1000) == 0);
  CHECK(YieldsOf(&spin, 1000) == 10);
}

}  // namespace
}  // namespace tutti
