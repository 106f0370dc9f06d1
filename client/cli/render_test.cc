// The screens, as people see them: golden texts.
#include "client/cli/render.h"

#include <google/protobuf/text_format.h>

#include <catch2/catch.hpp>
#include <string>

#include "absl/strings/str_split.h"
#include "client/cli/problems.h"
#include "client/cli/text.h"

namespace tutti {
namespace {

template <typename Message>
Message FromText(const std::string& text) {
  Message message;
  REQUIRE(google::protobuf::TextFormat::ParseFromString(text, &message));
  return message;
}

v1::GetStatusResponse Status() {
  return FromText<v1::GetStatusResponse>(R"pb(
    snapshot { age_ms: 120 number: 77 }
    version: "0.1.0"
    pid: 4242
    node: "gpu-node-7"
    uptime_ms: 11520000
    sessions: 4
    groups: 2
    works_submitted: 49380
    works_done: 49368
    works_failed: 8
    works_pending: 4
    arena_bytes: 268435456
    socket_dir: "/run/tutti"
    backends: "local"
  )pb");
}

v1::ListGroupsResponse Groups() {
  return FromText<v1::ListGroupsResponse>(R"pb(
    snapshot { age_ms: 120 }
    groups {
      namespace: "default"
      name: "dp"
      epoch: 3
      state: GROUP_STATE_READY
      world_size: 4
      joined: 4
      backend: "local"
      ops_done: 12342
      ops_per_second: 812.4
      bytes_per_second: 1.25e9
      pending: 1
      oldest_pending_ms: 34200
    }
    groups {
      namespace: "job-1"
      name: "a-rather-long-group-name"
      epoch: 1
      state: GROUP_STATE_FORMING
      world_size: 16
      joined: 15
    }
    groups {
      namespace: "default"
      name: "eval"
      epoch: 2
      state: GROUP_STATE_FAILED
      world_size: 2
      ops_done: 7
      ops_failed: 1
      failure {
        cause: CAUSE_RANK_DIED
        message: "allreduce #8 on \"eval\" (epoch 2): rank 1 (session 9, pid 811, "
                 "\"trainer\") died; join the group again to go on"
        culprits: 1
        sequence: 8
      }
    }
  )pb");
}

v1::GetGroupResponse Detail() {
  auto group = FromText<v1::GetGroupResponse>(R"pb(
    snapshot { age_ms: 90 }
    ranks {
      rank: 0
      session: 1
      pid: 801
      activity: RANK_ACTIVITY_WAITING
      last_sequence: 12343
      detail: "in allreduce #12343 of group \"dp\" for 34.2 s"
    }
    ranks {
      rank: 1
      session: 2
      pid: 802
      activity: RANK_ACTIVITY_STOPPED
      last_sequence: 12342
      detail: "process stopped"
    }
    ranks { rank: 2 activity: RANK_ACTIVITY_GONE last_sequence: 12342 }
    ranks { rank: 3 activity: RANK_ACTIVITY_NEVER_JOINED }
    pending {
      sequence: 12343
      kind: COLLECTIVE_KIND_ALLREDUCE
      dtype: DATA_TYPE_FLOAT32
      op: REDUCE_OP_SUM
      count: 1048576
      state: WORK_STATE_SUBMITTED
      age_ms: 34200
      arrived: 0
      missing: 1
      missing: 2
      missing: 3
    }
  )pb");
  *group.mutable_summary() = Groups().groups(0);
  return group;
}

// No line of a screen is wider than the screen.
void CheckWidth(const std::string& screen, size_t width) {
  for (const absl::string_view line : absl::StrSplit(screen, '\n')) {
    INFO(std::string(line));
    CHECK(WidthOf(line) <= width);
  }
}

TEST_CASE("status is one screen") {
  const std::string screen = RenderStatus(Status(), Groups(), {Detail()}, {});
  CHECK(screen ==
        R"(tutti 0.1.0 on gpu-node-7   pid 4242   up 3h12m   serving
sessions 4   groups 2   arenas 256 MiB
works 49k done, 8 failed, 4 pending
backends local   at /run/tutti   120 ms old

GROUP                EPOCH  SIZE STATE   OPS OPS/S BYTES/S PENDING OLDEST ERRORS
dp                       3     4 ready   12k   812    1.2G       1 34.2 s      -
…her-long-group-name     1 15/16 forming   0     0       0       -      -      -
eval                     2     2 failed    7     0       0       -      -      1

PROBLEMS
  group dp epoch 3: allreduce #12343 (sum of 1048576 float32) has been pending
  for 34.2 s, waiting for rank 1 (stopped), rank 2 (gone), rank 3 (never joined)
  group eval epoch 2 failed: allreduce #8 on "eval" (epoch 2): rank 1 (session
  9, pid 811, "trainer") died; join the group again to go on
)");
  CheckWidth(screen, 80);
}

TEST_CASE("a quiet daemon has nothing to say") {
  auto status = Status();
  status.set_draining(true);
  CHECK(RenderStatus(status, {}, {}, {}) ==
        R"(tutti 0.1.0 on gpu-node-7   pid 4242   up 3h12m   draining
sessions 4   groups 2   arenas 256 MiB
works 49k done, 8 failed, 4 pending
backends local   at /run/tutti   120 ms old

no groups
)");
}

TEST_CASE("a control loop that does not answer is said first, with its age") {
  auto status = Status();
  status.mutable_snapshot()->set_age_ms(9800);
  const std::string screen = RenderStatus(status, {}, {}, {});
  CHECK(screen.rfind(
            "warning: the control loop has not answered for 9.8 s; what follows is that old\n",
            0) == 0);
  CHECK(screen.find("up 3h12m   stuck\n") != std::string::npos);
  CHECK(screen.find("PROBLEMS\n  the control loop has not answered for 9.8 s\n") !=
        std::string::npos);
  status.mutable_snapshot()->set_age_ms(1000);
  CHECK(RenderStaleness(status.snapshot(), {}).empty());
}

TEST_CASE("names from clients are shown harmless and short, however they are") {
  auto groups = Groups();
  groups.mutable_groups(0)->set_name("evil\n\x1b[2Jname");
  groups.mutable_groups(1)->set_name(std::string(300, 'x'));
  auto status = Status();
  status.set_node(std::string(200, 'n'));
  status.set_socket_dir("/" + std::string(100, 'd'));
  const std::string screen = RenderStatus(status, groups, {}, {});
  CHECK(screen.find('\x1b') == std::string::npos);
  CheckWidth(screen, 80);
}

TEST_CASE("many groups and many problems still fit the screen") {
  auto groups = Groups();
  for (int i = 0; i < 100; ++i) {
    *groups.add_groups() = groups.groups(2);
    groups.mutable_groups(groups.groups_size() - 1)->set_name("g" + std::to_string(i));
  }
  groups.set_left_out(5);
  const std::string screen = RenderStatus(Status(), groups, {}, {});
  CHECK(screen.find("and 96 more groups\n") != std::string::npos);
  CHECK(screen.find("  and 98 more: tutti groups\n") != std::string::npos);
}

TEST_CASE("a group shows its ranks, what waits for whom, and why it ended") {
  auto group = Detail();
  *group.mutable_summary()->mutable_failure() = Groups().groups(2).failure();
  group.mutable_summary()->set_state(v1::GROUP_STATE_FAILED);
  const std::string screen = RenderGroup(group, {});
  CHECK(screen ==
        R"(group dp   epoch 3   failed   4 of 4 ranks
namespace default   backend local
ops 12k done, 0 failed, 1 pending   812 ops/s   1.2G bytes/s

RANK PID SESSION DOING          LAST SINCE
   0 801       1 waiting      #12343 in allreduce #12343 for 34.2 s
   1 802       2 stopped      #12342 process stopped
   2   -       - gone         #12342
   3   -       - never joined      -

PENDING
  allreduce #12343 (sum of 1048576 float32): submitted 34.2 s ago; arrived: 0;
  missing: 1-3

WHY IT ENDED  RANK_DIED  in collective #8  culprits: 1
  allreduce #8 on "eval" (epoch 2): rank 1 (session 9, pid 811, "trainer") died;
  join the group again to go on
)");
  CheckWidth(screen, 80);
}

TEST_CASE("sessions") {
  const auto sessions = FromText<v1::ListSessionsResponse>(R"pb(
    snapshot { age_ms: 10 }
    sessions {
      id: 1
      pid: 801
      uid: 1000
      namespace: "default"
      label: "trainer-0"
      lane: "ring"
      arenas: 2
      arena_bytes: 69206016
      memberships: 1
      works_pending: 1
      works_received: 12343
      age_ms: 61000
    }
    sessions { id: 12 uid: 65534 namespace: "job" label: "x" lane: "none" age_ms: 5 }
    sessions { id: 13 uid: 65534 label: "y" lane: "grpc" age_ms: 5 no_ring: "no\tmemory" }
    left_out: 3
  )pb");
  CHECK(RenderSessions(sessions, {}) ==
        R"(ID PID   UID LANE ARENAS  BYTES SEATS PENDING WORKS   AGE NAMESPACE/LABEL
 1 801  1000 ring      2 66 MiB     1       1   12k 1m01s trainer-0
12   - 65534 none      0    0 B     0       0     0  5 ms job/x
13   - 65534 grpc      0    0 B     0       0     0  5 ms y
and 3 more sessions
session 13 is not on the ring: no\x09memory
)");
  CHECK(RenderSessions({}, {}) == "no sessions\n");
}

TEST_CASE("operations, pending and ended") {
  const auto ops = FromText<v1::ListOpsResponse>(R"pb(
    snapshot { age_ms: 10 }
    ops {
      namespace: "default"
      group: "dp"
      epoch: 1
      sequence: 4
      kind: COLLECTIVE_KIND_BARRIER
      state: WORK_STATE_SUBMITTED
      age_ms: 700
      missing: 2
    }
    ops {
      namespace: "default"
      group: "dp"
      epoch: 1
      sequence: 3
      kind: COLLECTIVE_KIND_ALLREDUCE
      dtype: DATA_TYPE_FLOAT64
      op: REDUCE_OP_AVG
      count: 1000
      state: WORK_STATE_DONE
      age_ms: 3100
      arrival_spread_us: 264
      execution_us: 5900
    }
    ops {
      namespace: "j"
      group: "dp"
      epoch: 2
      sequence: 1
      kind: COLLECTIVE_KIND_BROADCAST
      dtype: DATA_TYPE_INT32
      count: 8
      state: WORK_STATE_FAILED
      age_ms: 90000
      failure { cause: CAUSE_MISMATCH message: "ranks disagree" }
    }
  )pb");
  const std::string screen = RenderOps(ops, {});
  CHECK(screen ==
        R"(GROUP EPOCH SEQ OPERATION         ELEMENTS STATE        AGE SPREAD    RUN
dp        1  #4 barrier                  - submitted 700 ms      -      -
dp        1  #3 allreduce avg 1000 float64 done       3.1 s 264 us 5.9 ms
j/dp      2  #1 broadcast          8 int32 failed     1m30s   0 us   0 us

j/dp epoch 2 #1  MISMATCH
  ranks disagree
)");
  CHECK(RenderOps({}, {}) == "no operations\n");
}

TEST_CASE("colours mark what needs a look, and nothing else") {
  const Style colored{.width = 80, .color = true};
  const std::string screen = RenderStatus(Status(), Groups(), {}, colored);
  CHECK(screen.find("\x1b[32mserving\x1b[0m") != std::string::npos);
  CHECK(screen.find("\x1b[1;31mfailed\x1b[0m") != std::string::npos);
  CHECK(screen.find("\x1b[33m34.2 s\x1b[0m") != std::string::npos);
  CHECK(RenderStatus(Status(), Groups(), {}, {}).find('\x1b') == std::string::npos);
}

TEST_CASE("only the newest epoch of a name can be a problem") {
  auto groups = Groups();
  CHECK(FindProblems(Status(), groups, {}).size() == 2);  // dp is stalled, eval failed
  auto* const again = groups.add_groups();
  again->set_namespace_("default");
  again->set_name("eval");
  again->set_epoch(3);
  again->set_state(v1::GROUP_STATE_READY);
  CHECK(FindProblems(Status(), groups, {}).size() == 1);
  again->set_namespace_("other");
  CHECK(FindProblems(Status(), groups, {}).size() == 2);
}

TEST_CASE("numbers that this build does not know are no reason to fail") {
  auto group = Detail();
  group.mutable_ranks(0)->set_activity(static_cast<v1::RankActivity>(99));
  group.mutable_pending(0)->set_kind(static_cast<v1::CollectiveKind>(99));
  group.mutable_pending(0)->set_dtype(static_cast<v1::DataType>(99));
  group.mutable_summary()->set_state(static_cast<v1::GroupState>(99));
  CHECK(RenderGroup(group, {}).find("?") != std::string::npos);
}

}  // namespace
}  // namespace tutti
