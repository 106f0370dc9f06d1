#include "daemon/transport/node_status.h"

#include <catch2/catch.hpp>
#include <memory>
#include <string>

#include "daemon/core/testing/core_fixture.h"

namespace tutti {
namespace {

const MonotonicTime kNow = absl::UnixEpoch() + absl::Hours(1);

GroupSnapshot Named(const std::string& name, uint64_t epoch, GroupState state) {
  GroupSnapshot group;
  group.name_space = "job";
  group.name = name;
  group.epoch = epoch;
  group.state = state;
  group.world_size = 3;
  for (Rank rank = 0; rank < 3; ++rank) {
    group.ranks.push_back({.rank = rank, .activity = RankActivity::kIdle});
  }
  return group;
}

struct World {
  void Add(GroupSnapshot group) {
    snapshot.groups.push_back(std::make_shared<const GroupSnapshot>(std::move(group)));
  }
  v1::NodeStatus Show() const {
    v1::NodeStatus status;
    ShowNode({.snapshot = snapshot, .now = kNow, .processes = processes}, &status);
    return status;
  }

  Snapshot snapshot{.taken = kNow - absl::Milliseconds(120)};
  TestCore test;
  const ProcessProbe& processes = test.processes;
};

TEST_CASE("numbers, and how old they are") {
  World world;
  world.snapshot.draining = true;
  world.snapshot.totals = {.works_submitted = 10, .works_done = 6, .works_failed = 1};
  world.snapshot.sessions.resize(2);
  world.Add(Named("forming", 1, GroupState::kForming));
  world.Add(Named("ready", 1, GroupState::kReady));
  world.Add(Named("closed", 1, GroupState::kClosed));
  const v1::NodeStatus status = world.Show();
  CHECK(status.age_ms() == 120);
  CHECK(status.draining());
  CHECK(status.works_pending() == 3);
  CHECK(status.sessions() == 2);
  CHECK(status.groups() == 2);
  CHECK(status.groups_failed() == 0);
  CHECK(status.groups_stalled() == 0);
  CHECK(status.spanning().empty());
}

TEST_CASE("a group has failed if nobody has formed it again") {
  World world;
  world.Add(Named("dp", 2, GroupState::kFailed));
  CHECK(world.Show().groups_failed() == 1);
  world.Add(Named("dp", 1, GroupState::kFailed));
  CHECK(world.Show().groups_failed() == 1);
  world.Add(Named("dp", 3, GroupState::kReady));
  CHECK(world.Show().groups_failed() == 0);
}

TEST_CASE("a group is stalled after ten seconds") {
  for (const bool late : {false, true}) {
    World world;
    GroupSnapshot group = Named("dp", 1, GroupState::kReady);
    const absl::Duration age = absl::Seconds(10) + absl::Milliseconds(late ? 1 : 0);
    group.pending.push_back({.sequence = 1, .first_submitted = kNow - age});
    world.Add(group);
    CHECK(world.Show().groups_stalled() == (late ? 1 : 0));
  }
}

TEST_CASE("living groups with ranks elsewhere are named, 64 of them") {
  World world;
  GroupSnapshot wide = Named("wide", 7, GroupState::kReady);
  wide.ranks[0].activity = RankActivity::kElsewhere;
  world.Add(wide);
  wide.state = GroupState::kFailed;
  world.Add(wide);
  const v1::NodeStatus status = world.Show();
  REQUIRE(status.spanning_size() == 1);
  CHECK(status.spanning(0).namespace_() == "job");
  CHECK(status.spanning(0).name() == "wide");
  CHECK(status.spanning(0).epoch() == 7);
  CHECK(status.spanning(0).world_size() == 3);
  CHECK(status.spanning(0).ranks_here() == 2);
  wide.state = GroupState::kReady;
  for (int i = 0; i < 100; ++i) world.Add(wide);
  CHECK(world.Show().spanning_size() == 64);
}

}  // namespace
}  // namespace tutti
