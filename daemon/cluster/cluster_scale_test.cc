// A thousand and ten thousand ranks, by the very code of the daemon: what it costs to form their
// group, and to tell all of them that one has died. Prints messages and virtual time; they may grow
// with the number of nodes n as n log n, and no faster.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstdio>

#include "base/failpoint.h"
#include "daemon/cluster/testing/test_node.h"

namespace tutti {
namespace {

constexpr uint32_t kRanksPerNode = 10;
constexpr uint64_t kSeed = 20261123;

struct Cost {
  uint64_t messages = 0;  // of all nodes together
  uint64_t busiest = 0;   // of the node that sends most
  absl::Duration time;
};

struct Costs {
  Cost forming;
  Cost failing;
};

uint64_t Sent(const TestWorld& world, uint64_t* busiest) {
  uint64_t all = 0;
  for (size_t place = 0; place < world.nodes.size(); ++place) {
    all += world.network.sent_by(place);
    *busiest = std::max(*busiest, world.network.sent_by(place));
  }
  return all;
}

// Does `start`, and lets time pass until `done`, which must come; says what it has cost.
template <typename Start, typename Done>
Cost Run(TestWorld* world, Start start, Done done) {
  Cost before;
  before.messages = Sent(*world, &before.busiest);
  const MonotonicTime began = world->clock.Now();
  start();
  while (!done() && world->clock.Now() - began < absl::Seconds(60)) {
    world->Advance(absl::Milliseconds(1));
  }
  REQUIRE(done());
  Cost cost;
  cost.messages = Sent(*world, &cost.busiest) - before.messages;
  cost.busiest -= before.busiest;
  cost.time = world->clock.Now() - began;
  return cost;
}

Costs Measure(uint32_t ranks) {
  const size_t nodes = ranks / kRanksPerNode;
  TestWorld world(nodes, {.seed = kSeed});
  std::vector<uint64_t> last_join(nodes);
  const auto join = [&] {
    for (Rank rank = 0; rank < ranks; ++rank) {
      last_join[rank % nodes] = world[rank % nodes].Join("all", rank, ranks);
    }
  };
  const auto all_live = [&] {
    for (size_t node = 0; node < nodes; ++node) {
      if (!world[node].EpochOf(last_join[node]).has_value()) return false;
    }
    return true;
  };
  Costs costs;
  costs.forming = Run(&world, join, all_live);
  const EpochId epoch = *world[0].EpochOf(last_join[0]);
  const auto fail = [&] { world[nodes / 2].Fail(epoch, "rank 7 has died"); };
  const auto all_told = [&] {
    for (size_t node = 0; node < nodes; ++node) {
      if (world[node].endings[epoch].empty()) return false;
    }
    return true;
  };
  costs.failing = Run(&world, fail, all_told);
  CHECK(world.violations.empty());
  return costs;
}

void Print(const char* what, uint32_t ranks, const Cost& cost) {
  std::printf(
      "%6u ranks on %4u nodes, %-7s: %6.1f messages per node, %6llu by the busiest, %s\n", ranks,
      ranks / kRanksPerNode, what, static_cast<double>(cost.messages) / (ranks / kRanksPerNode),
      static_cast<unsigned long long>(cost.busiest), absl::FormatDuration(cost.time).c_str());
}

// By how much it may grow from `small` to `large` nodes.
double NLogN(double small, double large) {
  return large * std::log2(large) / (small * std::log2(small));
}

bool GrowsTooFast(const Cost& small, const Cost& large) {
  const double most = NLogN(100, 1000);
  return static_cast<double>(large.messages) > most * static_cast<double>(small.messages) ||
         static_cast<double>(large.busiest) > most * static_cast<double>(small.busiest) ||
         large.time > most * small.time;
}

TEST_CASE("forming and failing cost n log n at most, up to ten thousand ranks") {
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  const Costs small = Measure(1000);
  const Costs large = Measure(10000);
  for (const auto& [ranks, costs] : {std::pair(1000U, small), std::pair(10000U, large)}) {
    Print("forming", ranks, costs.forming);
    Print("failing", ranks, costs.failing);
  }
  CHECK_FALSE(GrowsTooFast(small.forming, large.forming));
  CHECK_FALSE(GrowsTooFast(small.failing, large.failing));
}

TEST_CASE("the check sees it when all nodes tell all others") {
  if (!kFailpointsBuiltIn) return;
  SetFailpoint("coordinator.tell_often", FailpointAction::kMutate, 1);
  const Costs small = Measure(200);
  const Costs large = Measure(2000);
  SetFailpoint("coordinator.tell_often", FailpointAction::kOff, 1);
  CHECK(static_cast<double>(large.forming.messages) >
        NLogN(20, 200) * static_cast<double>(small.forming.messages));
}

}  // namespace
}  // namespace tutti
