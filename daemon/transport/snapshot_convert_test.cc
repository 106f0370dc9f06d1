#include "daemon/transport/snapshot_convert.h"

#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>

#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <string>

#include "daemon/core/testing/core_fixture.h"

namespace tutti {
namespace {

const MonotonicTime kStart = absl::UnixEpoch() + absl::Hours(1);

MonotonicTime At(absl::Duration since_start) { return kStart + since_start; }

// True if `actual` is what `expected` says as text; shows both otherwise.
template <typename Message>
void CheckIs(const Message& actual, const std::string& expected) {
  Message wanted;
  REQUIRE(google::protobuf::TextFormat::ParseFromString(expected, &wanted));
  std::string difference;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&difference);
  const bool same = differencer.Compare(wanted, actual);
  INFO(difference);
  CHECK(same);
}

GroupSnapshot Dp() {
  GroupSnapshot group;
  group.name_space = "job";
  group.name = "dp";
  group.epoch = 3;
  group.state = GroupState::kReady;
  group.world_size = 3;
  group.joined = 3;
  group.backend = "local";
  group.ops_done = 41;
  group.ops_failed = 1;
  group.ops_per_second = 2.5;
  group.bytes_per_second = 1e6;
  group.pending_count = 1;
  group.ranks = {
      {.rank = 0,
       .session = 5,
       .pid = 100,
       .activity = RankActivity::kWaiting,
       .last_sequence = 43,
       .detail = "in allreduce #43 of group \"dp\"",
       .since = At(absl::Seconds(7))},
      {.rank = 1,
       .session = 6,
       .pid = 101,
       .activity = RankActivity::kIdle,
       .last_sequence = 42,
       .since = At(absl::Seconds(1))},
      {.rank = 2, .activity = RankActivity::kGone, .last_sequence = 42, .since = kStart},
  };
  group.pending = {{.sequence = 43,
                    .kind = CollectiveKind::kAllreduce,
                    .dtype = DataType::kFloat32,
                    .op = ReduceOp::kSum,
                    .count = 1000,
                    .state = WorkState::kSubmitted,
                    .first_submitted = At(absl::Seconds(7)),
                    .last_submitted = At(absl::Seconds(7)),
                    .ended = At(absl::Seconds(7)),
                    .arrived = {0},
                    .missing = {1, 2}}};
  group.recent = {{.sequence = 42,
                   .kind = CollectiveKind::kBroadcast,
                   .dtype = DataType::kInt64,
                   .count = 8,
                   .root = 2,
                   .state = WorkState::kFailed,
                   .first_submitted = At(absl::Seconds(3)),
                   .last_submitted = At(absl::Seconds(3) + absl::Microseconds(250)),
                   .ended = At(absl::Seconds(3) + absl::Microseconds(1250)),
                   .failure = Failure{.cause = Cause::kBackend, .message = "no"}},
                  {.sequence = 41,
                   .kind = CollectiveKind::kBarrier,
                   .state = WorkState::kDone,
                   .first_submitted = At(absl::Seconds(2)),
                   .last_submitted = At(absl::Seconds(2)),
                   .ended = At(absl::Seconds(2))}};
  return group;
}

struct World {
  World() { snapshot.taken = At(absl::Seconds(9)); }

  void Add(GroupSnapshot group) {
    snapshot.groups.push_back(std::make_shared<const GroupSnapshot>(std::move(group)));
  }
  SnapshotView View(size_t bytes_max = size_t{7} << 19) const {
    return {.snapshot = snapshot,
            .now = At(absl::Seconds(10)),
            .processes = processes,
            .bytes_max = bytes_max};
  }

  Snapshot snapshot{.number = 17};
  FakeProcesses processes;
};

v1::GetGroupRequest Named(const std::string& name, const std::string& name_space = "") {
  v1::GetGroupRequest request;
  request.set_name(name);
  request.set_namespace_(name_space);
  return request;
}

constexpr char kDpSummary[] =
    "namespace: 'job' name: 'dp' epoch: 3 state: GROUP_STATE_READY world_size: 3 joined: 3 "
    "backend: 'local' ops_done: 41 ops_failed: 1 ops_per_second: 2.5 bytes_per_second: 1e6 "
    "pending: 1 oldest_pending_ms: 3000";

constexpr char kPending[] =
    "namespace: 'job' group: 'dp' epoch: 3 sequence: 43 kind: COLLECTIVE_KIND_ALLREDUCE "
    "dtype: DATA_TYPE_FLOAT32 op: REDUCE_OP_SUM count: 1000 state: WORK_STATE_SUBMITTED "
    "age_ms: 3000 arrived: 0 missing: [1, 2]";

constexpr char kFailed[] =
    "namespace: 'job' group: 'dp' epoch: 3 sequence: 42 kind: COLLECTIVE_KIND_BROADCAST "
    "dtype: DATA_TYPE_INT64 count: 8 root: 2 state: WORK_STATE_FAILED age_ms: 7000 "
    "arrival_spread_us: 250 execution_us: 1000 "
    "failure { code: 13 cause: CAUSE_BACKEND message: 'no' }";

std::string Quote(const std::string& field, const std::string& text) {
  return field + " { " + text + " } ";
}

TEST_CASE("status: totals, and how old they are") {
  World world;
  world.Add(Dp());
  GroupSnapshot past = Dp();
  past.state = GroupState::kFailed;
  world.Add(past);
  world.snapshot.draining = true;
  world.snapshot.totals = {.works_submitted = 10, .works_done = 6, .works_failed = 1};
  world.snapshot.arena_bytes = 4096;
  world.snapshot.sessions.resize(2);
  v1::GetStatusResponse status;
  ShowStatus(world.View(), &status);
  CheckIs(status,
          "snapshot { age_ms: 1000 number: 17 } draining: true sessions: 2 groups: 1 "
          "works_submitted: 10 works_done: 6 works_failed: 1 works_pending: 3 arena_bytes: 4096");
}

TEST_CASE("a group: its line, what each rank does, what is pending") {
  World world;
  world.Add(Dp());
  const Result<v1::GetGroupResponse> group = ShowGroup(world.View(), Named("dp"));
  REQUIRE(group.ok());
  CheckIs(*group, "snapshot { age_ms: 1000 number: 17 } " + Quote("summary", kDpSummary) +
                      "ranks { rank: 0 session: 5 pid: 100 activity: RANK_ACTIVITY_WAITING "
                      "last_sequence: 43 detail: 'in allreduce #43 of group \"dp\" for 3.0 s' } "
                      "ranks { rank: 1 session: 6 pid: 101 activity: RANK_ACTIVITY_IDLE "
                      "last_sequence: 42 detail: 'idle for 9.0 s' } "
                      "ranks { rank: 2 activity: RANK_ACTIVITY_GONE last_sequence: 42 "
                      "detail: 'its session has ended' } " +
                      Quote("pending", kPending));
}

TEST_CASE("whether a process is stopped, or gone, is looked up when it is asked") {
  World world;
  world.Add(Dp());
  world.processes.states = {{100, ProcessState::kStopped}, {101, ProcessState::kGone}};
  const Result<v1::GetGroupResponse> group = ShowGroup(world.View(), Named("dp"));
  REQUIRE(group.ok());
  CHECK(group->ranks(0).activity() == v1::RANK_ACTIVITY_STOPPED);
  CHECK(group->ranks(0).detail() ==
        "process stopped (a signal or a debugger); in allreduce #43 of group \"dp\" for 3.0 s");
  CHECK(group->ranks(1).activity() == v1::RANK_ACTIVITY_GONE);
  CHECK(group->ranks(1).detail() == "process ended; idle for 9.0 s");
}

TEST_CASE("ages grow while the loop is stuck") {
  World world;
  world.Add(Dp());
  SnapshotView view = world.View();
  view.now += absl::Seconds(100);
  const Result<v1::GetGroupResponse> group = ShowGroup(view, Named("dp"));
  CHECK(group->snapshot().age_ms() == 101'000);
  CHECK(group->summary().oldest_pending_ms() == 103'000);
  CHECK(group->ranks(0).detail() == "in allreduce #43 of group \"dp\" for 1 min 43 s");
  view.now += absl::Hours(2);
  CHECK(ShowGroup(view, Named("dp"))->ranks(1).detail() == "idle for 2 h 1 min");
}

TEST_CASE("which group a name means") {
  World world;
  GroupSnapshot group = Dp();
  group.state = GroupState::kFailed;
  group.epoch = 1;
  world.Add(group);
  group.epoch = 2;
  world.Add(group);
  SECTION("the newest that has ended, if none lives") {
    CHECK(ShowGroup(world.View(), Named("dp"))->summary().epoch() == 2);
  }
  SECTION("the living one") {
    group.state = GroupState::kForming;
    group.name_space = "other";
    group.epoch = 1;
    world.Add(group);
    CHECK(ShowGroup(world.View(), Named("dp"))->summary().namespace_() == "other");
    CHECK(ShowGroup(world.View(), Named("dp", "job"))->summary().epoch() == 2);
  }
  SECTION("none, if it lives in several namespaces") {
    for (const char* name_space : {"a", "b"}) {
      group.state = GroupState::kReady;
      group.name_space = name_space;
      world.Add(group);
    }
    const auto ambiguous = ShowGroup(world.View(), Named("dp"));
    REQUIRE_FALSE(ambiguous.ok());
    CHECK(ambiguous.failure().cause == Cause::kInvalid);
    CHECK(ambiguous.failure().message ==
          "group \"dp\" exists in several namespaces (a, b): name one");
    CHECK(ShowGroup(world.View(), Named("dp", "b"))->summary().namespace_() == "b");
  }
  SECTION("none, if there is none") {
    const auto missing = ShowGroup(world.View(), Named("dp\n", "x"));
    REQUIRE_FALSE(missing.ok());
    CHECK(missing.failure().cause == Cause::kNotFound);
    CHECK(missing.failure().message == "no group \"dp\\n\" in namespace \"x\"");
  }
}

TEST_CASE("groups: the longest waiting first, the others as they are; the rest is counted") {
  World world;
  for (int i = 0; i < 5; ++i) {
    GroupSnapshot group = Dp();
    group.name = std::string(1, static_cast<char>('a' + i));
    if (i % 2 == 0) group.pending.clear();
    if (i == 3) group.pending[0].first_submitted -= absl::Seconds(1);
    world.Add(group);
  }
  const auto names = [](const v1::ListGroupsResponse& response) {
    std::string all;
    for (const v1::GroupSummary& group : response.groups()) all += group.name();
    return all;
  };
  v1::ListGroupsRequest request;
  CHECK(names(ShowGroups(world.View(), request)) == "dbace");
  CHECK(ShowGroups(world.View(), request).left_out() == 0);
  request.set_limit(2);
  CHECK(names(ShowGroups(world.View(), request)) == "db");
  CHECK(ShowGroups(world.View(), request).left_out() == 3);
  // Each is some 60 bytes.
  request.set_limit(0);
  CHECK(names(ShowGroups(world.View(200), request)) == "dba");
  CHECK(ShowGroups(world.View(200), request).left_out() == 2);
}

TEST_CASE("operations: pending ones, then the newest; filtered by group and by failure") {
  World world;
  world.Add(Dp());
  GroupSnapshot other = Dp();
  other.name = "other";
  other.pending.clear();
  other.recent.resize(1);
  other.recent[0].ended += absl::Seconds(1);
  world.Add(other);
  v1::ListOpsRequest request;
  const v1::ListOpsResponse all = ShowOps(world.View(), request);
  REQUIRE(all.ops_size() == 4);
  CheckIs(all.ops(0), kPending);
  CHECK(all.ops(1).group() == "other");
  CheckIs(all.ops(2), kFailed);
  CHECK(all.ops(3).sequence() == 41);

  request.set_limit(2);
  CHECK(ShowOps(world.View(), request).ops_size() == 2);
  request.set_limit(0);
  request.set_group("dp");
  CHECK(ShowOps(world.View(), request).ops_size() == 3);
  request.set_failed_only(true);
  const v1::ListOpsResponse failed = ShowOps(world.View(), request);
  REQUIRE(failed.ops_size() == 1);
  CheckIs(failed.ops(0), kFailed);
}

TEST_CASE("a transfer shows its pair") {
  World world;
  GroupSnapshot group = Dp();
  group.pending[0].kind = CollectiveKind::kSend;
  group.pending[0].source = 2;
  group.pending[0].root = 1;
  world.Add(group);
  const v1::ListOpsResponse ops = ShowOps(world.View(), {});
  CHECK(ops.ops(0).source() == 2);
  CHECK(ops.ops(0).root() == 1);
}

TEST_CASE("sessions in their order") {
  World world;
  world.snapshot.sessions = {{.id = 5,
                              .pid = 100,
                              .uid = 1000,
                              .name_space = "job",
                              .label = "trainer",
                              .client_version = "tutti-python 0.1.0",
                              .lane = "grpc",
                              .arenas = 2,
                              .arena_bytes = 8192,
                              .memberships = 1,
                              .works_pending = 3,
                              .works_received = 43,
                              .opened = At(absl::Seconds(4))},
                             {.id = 6, .lane = "none", .opened = At(absl::Seconds(10))}};
  v1::ListSessionsRequest request;
  CheckIs(ShowSessions(world.View(), request),
          "snapshot { age_ms: 1000 number: 17 } sessions { id: 5 pid: 100 uid: 1000 "
          "namespace: 'job' label: 'trainer' client_version: 'tutti-python 0.1.0' lane: 'grpc' "
          "arenas: 2 arena_bytes: 8192 memberships: 1 works_pending: 3 works_received: 43 "
          "age_ms: 6000 } sessions { id: 6 lane: 'none' }");
  request.set_limit(1);
  CHECK(ShowSessions(world.View(), request).left_out() == 1);
}

TEST_CASE("no answer exceeds what gRPC takes, however much there is") {
  constexpr size_t kGrpcBytesMax = 4 << 20;
  World world;
  GroupSnapshot huge = Dp();
  huge.name = std::string(256, 'n');
  huge.name_space = std::string(256, 's');
  huge.world_size = 65536;
  huge.failure = Failure{.cause = Cause::kDeadline, .message = std::string(4096, 'm')};
  huge.ranks.resize(65536, huge.ranks[0]);
  for (RankSnapshot& rank : huge.ranks) rank.detail = std::string(600, 'd');
  for (Rank rank = 0; rank < 65536; ++rank) {
    huge.pending[0].arrived.push_back(rank);
    huge.pending[0].missing.push_back(rank);
  }
  huge.pending.resize(64, huge.pending[0]);
  huge.recent.resize(1000, huge.recent[0]);
  for (OpSnapshot& op : huge.recent) op.failure = huge.failure;
  for (int i = 0; i < 3; ++i) world.Add(huge);
  // Groups that are small, but many.
  GroupSnapshot many = huge;
  many.ranks.clear();
  many.pending.clear();
  many.recent.clear();
  for (int i = 0; i < 2000; ++i) world.Add(many);
  world.snapshot.sessions.resize(5000, {.name_space = std::string(256, 's'),
                                        .label = std::string(256, 'l'),
                                        .client_version = std::string(4096, 'v')});

  v1::ListOpsRequest ops;
  ops.set_limit(100'000);
  const v1::ListOpsResponse shown_ops = ShowOps(world.View(), ops);
  CHECK(shown_ops.ByteSizeLong() < kGrpcBytesMax);
  CHECK(shown_ops.ops_size() > 0);
  const v1::ListGroupsResponse groups = ShowGroups(world.View(), {});
  CHECK(groups.ByteSizeLong() < kGrpcBytesMax);
  CHECK(groups.left_out() == 2003 - static_cast<uint64_t>(groups.groups_size()));
  const v1::ListSessionsResponse sessions = ShowSessions(world.View(), {});
  CHECK(sessions.ByteSizeLong() < kGrpcBytesMax);
  CHECK(sessions.left_out() == 5000 - static_cast<uint64_t>(sessions.sessions_size()));
  const v1::GetGroupRequest request = Named(huge.name, huge.name_space);
  const Result<v1::GetGroupResponse> group = ShowGroup(world.View(), request);
  REQUIRE(group.ok());
  CHECK(group->ByteSizeLong() < kGrpcBytesMax);
  CHECK(group->ranks_size() == 65536);
}

TEST_CASE("the dump has a line per group, rank and session") {
  World world;
  world.Add(Dp());
  world.snapshot.sessions.resize(2);
  const std::vector<std::string> lines = DescribeSnapshot(world.View());
  REQUIRE(lines.size() == 1 + 1 + 3 + 2);
  for (const std::string& line : lines) CHECK(line.find('\n') == std::string::npos);
  CHECK(lines[1].find("name: \"dp\"") != std::string::npos);
}

}  // namespace
}  // namespace tutti
