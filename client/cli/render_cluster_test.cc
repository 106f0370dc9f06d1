// The screen of the cluster, as people see it: golden texts.
#include <google/protobuf/text_format.h>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "client/cli/problems.h"
#include "client/cli/render.h"
#include "client/cli/text.h"

namespace tutti {
namespace {

using Strings = std::vector<std::string>;

template <typename Message>
Message FromText(const std::string& text) {
  Message message;
  REQUIRE(google::protobuf::TextFormat::ParseFromString(text, &message));
  return message;
}

// Of each state one.
v1::GetClusterResponse Cluster() {
  return FromText<v1::GetClusterResponse>(R"pb(
    membership {
      join: "198.51.100.1:7411"
      seed { id: "\001\002\003\004" name: "gpu-1" address: "198.51.100.1:7411" }
      connected: true
      since_ms: 185000
      links: 1
    }
    nodes {
      node { id: "\002\377\000\004" name: "gpu-2" address: "198.51.100.2:40001" }
      state: NODE_STATE_ANSWERED
      self: true
      status {
        version: "0.1.0"
        uptime_ms: 190000
        age_ms: 120
        sessions: 4
        groups: 2
        works_pending: 1
        spanning { namespace: "job" name: "dp" epoch: 3 world_size: 6 ranks_here: 4 }
      }
    }
    nodes {
      node { id: "\001\002\003\004" name: "gpu-1" address: "198.51.100.1:7411" }
      state: NODE_STATE_ANSWERED
      seed: true
      status {
        version: "0.1.0"
        uptime_ms: 11520000
        age_ms: 80
        sessions: 2
        groups: 1
        groups_failed: 1
        groups_stalled: 2
        spanning { namespace: "job" name: "dp" epoch: 3 world_size: 6 ranks_here: 2 }
      }
    }
    nodes {
      node { id: "\003" name: "gpu-3" address: "198.51.100.3:40001" }
      state: NODE_STATE_ANSWERED
      status { version: "0.1.0" age_ms: 3200 }
    }
    nodes {
      node { id: "\004" name: "gpu-4" address: "198.51.100.4:40001" }
      state: NODE_STATE_ANSWERED
      status { version: "0.1.0" draining: true }
    }
    nodes {
      node { id: "\005" name: "gpu-5" address: "198.51.100.5:40001" }
      state: NODE_STATE_SILENT
      since_ms: 3200
      why: "no answer within 442ms"
    }
    nodes {
      node { id: "\006" name: "gpu-6" address: "198.51.100.6:40001" }
      state: NODE_STATE_TOO_OLD
    }
    nodes {
      node { id: "\007" name: "gpu-7" address: "198.51.100.7:40001" }
      state: NODE_STATE_NOT_ASKED
    }
    nodes {
      node { id: "\010" name: "gpu-8" address: "198.51.100.8:40001" }
      state: NODE_STATE_LOST
      since_ms: 12000
      why: "the connection broke"
    }
  )pb");
}

void CheckWidth(const std::string& screen, size_t width) {
  for (const absl::string_view line : absl::StrSplit(screen, '\n')) {
    INFO(std::string(line));
    CHECK(WidthOf(line) <= width);
  }
}

TEST_CASE("the cluster is one screen") {
  const std::string screen = RenderCluster(Cluster(), {});
  CHECK(screen ==
        R"(7 nodes, 1 silent, 1 not asked, 1 too old to say, 1 lost   seen from gpu-2 (198…

NODE  ADDRESS            ROLE STATE           UP SESS GROUPS PEND PROBS
gpu-2 198.51.100.2:40001 -    serving      3m10s    4      2    1     0
gpu-1 198.51.100.1:7411  seed serving      3h12m    2      1    0     3
gpu-3 198.51.100.3:40001 -    stuck 3.2 s   0 ms    0      0    0     1
gpu-4 198.51.100.4:40001 -    draining      0 ms    0      0    0     0
gpu-5 198.51.100.5:40001 -    silent 3.2 s     -    -      -    -     -
gpu-6 198.51.100.6:40001 -    too old          -    -      -    -     -
gpu-7 198.51.100.7:40001 -    not asked        -    -      -    -     -
gpu-8 198.51.100.8:40001 -    lost 12.0 s      -    -      -    -     -

GROUP  EPOCH SIZE NODES (RANKS)
job/dp     3    6 gpu-1 (2), gpu-2 (4)

PROBLEMS
  gpu-1 (198.51.100.1:7411): 1 group failed; more there: tutti status
  gpu-1 (198.51.100.1:7411): 2 groups stalled; more there: tutti status
  gpu-3 (198.51.100.3:40001): its control loop has not answered for 3.2 s
  gpu-5 (198.51.100.5:40001) has been silent for 3.2 s: no answer within 442ms
  gpu-7 (198.51.100.7:40001) was not asked: time was up; try --timeout 10s
  gpu-8 (198.51.100.8:40001) was lost 12.0 s ago: the connection broke
)");
  CheckWidth(screen, 80);
}

TEST_CASE("a wide terminal also shows ids and versions; a narrow one versions that differ") {
  auto cluster = Cluster();
  const std::string wide = RenderCluster(cluster, {.width = 120});
  CHECK(wide.find("gpu-2 02ff00 198.51.100.2:40001 -    serving      0.1.0   3m10s") !=
        std::string::npos);
  CheckWidth(wide, 120);
  CHECK(RenderCluster(cluster, {}).find("VERSION") == std::string::npos);
  cluster.mutable_nodes(2)->mutable_status()->set_version("0.2.0");
  CHECK(RenderCluster(cluster, {}).find(" VERSION ") != std::string::npos);
  CHECK(RenderCluster(cluster, {}).find(" 0.2.0 ") != std::string::npos);
  CHECK(RenderCluster(cluster, {}).find(" UP ") == std::string::npos);
}

TEST_CASE("a cluster that is well has nothing to say") {
  auto cluster = Cluster();
  cluster.mutable_nodes()->DeleteSubrange(2, 6);
  cluster.mutable_nodes(1)->mutable_status()->clear_groups_failed();
  cluster.mutable_nodes(1)->mutable_status()->clear_groups_stalled();
  CHECK(FindClusterProblems(cluster).empty());
  const std::string screen = RenderCluster(cluster, {});
  CHECK(screen.rfind("2 nodes   seen from gpu-2 (198.51.100.2:40001)\n\n", 0) == 0);
  CHECK(screen.find("PROBLEMS\n  ") == std::string::npos);
}

TEST_CASE("a seed that is out of reach is said first, and is a problem") {
  auto cluster = Cluster();
  cluster.set_seed_silent("no answer within 250ms");
  const std::string screen = RenderCluster(cluster, {});
  CHECK(screen.find("\nwarning: the seed has not said who is in the cluster; these are the "
                    "nodes that\nthis daemon knows\n") != std::string::npos);
  CHECK(FindClusterProblems(cluster).front() ==
        "the seed gpu-1 (198.51.100.1:7411) does not answer: no answer within 250ms");
  cluster.mutable_membership()->clear_seed();
  CHECK(FindClusterProblems(cluster).front() ==
        "the seed at 198.51.100.1:7411 does not answer: no answer within 250ms");
}

TEST_CASE("a daemon in no cluster") {
  auto cluster = Cluster();
  cluster.clear_membership();
  cluster.mutable_nodes()->DeleteSubrange(1, 7);
  CHECK(RenderCluster(cluster, {}).rfind("1 node: this daemon is in no cluster\n", 0) == 0);
}

TEST_CASE("each kind of trouble is a problem of its own, and only trouble is") {
  const auto problems_of = [](int row) {
    v1::GetClusterResponse cluster;
    *cluster.add_nodes() = Cluster().nodes(row);
    return FindClusterProblems(cluster);
  };
  CHECK(problems_of(0).empty());
  CHECK(problems_of(1) ==
        Strings{"gpu-1 (198.51.100.1:7411): 1 group failed; more there: tutti status",
                "gpu-1 (198.51.100.1:7411): 2 groups stalled; more there: tutti status"});
  CHECK(problems_of(2) ==
        Strings{"gpu-3 (198.51.100.3:40001): its control loop has not answered for 3.2 s"});
  CHECK(problems_of(3).empty());
  CHECK(problems_of(4) ==
        Strings{"gpu-5 (198.51.100.5:40001) has been silent for 3.2 s: no answer within 442ms"});
  CHECK(problems_of(5).empty());
  CHECK(problems_of(6) ==
        Strings{"gpu-7 (198.51.100.7:40001) was not asked: time was up; try --timeout 10s"});
  CHECK(problems_of(7) ==
        Strings{"gpu-8 (198.51.100.8:40001) was lost 12.0 s ago: the connection broke"});
}

TEST_CASE("nodes of one name are told apart by their addresses; names are harmless") {
  auto cluster = Cluster();
  cluster.mutable_nodes(0)->mutable_node()->set_name("evil\n\x1b[2Jname");
  cluster.mutable_nodes(1)->mutable_node()->set_name("evil\n\x1b[2Jname");
  cluster.mutable_nodes(4)->set_why("\x1b[2J");
  const std::string screen = RenderCluster(cluster, {});
  CHECK(screen.find("198.51.100.1:7411 (2), 198.51.100.2:40001 (4)") != std::string::npos);
  CHECK(screen.find('\x1b') == std::string::npos);
}

TEST_CASE("a thousand nodes, groups and problems") {
  auto cluster = Cluster();
  for (int i = 0; i < 992; ++i) *cluster.add_nodes() = cluster.nodes(4);
  for (int i = 0; i < 20; ++i) {
    v1::NodeStatus* const status = cluster.mutable_nodes(0)->mutable_status();
    *status->add_spanning() = status->spanning(0);
    status->mutable_spanning(i + 1)->set_name("g" + std::to_string(i));
  }
  cluster.set_left_out(5);
  const std::string screen = RenderCluster(cluster, {});
  CHECK(screen.rfind("1004 nodes, 993 silent, 1 not asked, 1 too old to say, 1 lost ", 0) == 0);
  CHECK(screen.find("and 5 more nodes\n") != std::string::npos);
  CHECK(screen.find("and 9 more groups over several nodes\n") != std::string::npos);
  CHECK(screen.find("  and 990 more\n") != std::string::npos);
  CheckWidth(screen, 80);
}

TEST_CASE("status says where the daemon stands in the cluster, and for how long") {
  v1::GetStatusResponse status;
  const auto line = [&] {
    const std::string screen = RenderStatus(status, {}, {}, {});
    const std::vector<std::string> lines = absl::StrSplit(screen, '\n');
    return lines[4];
  };
  CHECK(line().empty());
  status.set_incarnation("me");
  *status.mutable_membership() = Cluster().membership();
  CHECK(line() == "cluster seed gpu-1 (198.51.100.1:7411)   connected for 3m05s   links 1");
  status.mutable_membership()->mutable_seed()->set_id("me");
  CHECK(line() == "cluster this daemon is the seed   links 1");
  status.mutable_membership()->set_connected(false);
  status.mutable_membership()->set_why("Connection refused");
  CHECK(line() ==
        "cluster looks for the seed at 198.51.100.1:7411   for 3m05s: Connection refused");
  CHECK(FindProblems(status, {}, {}) ==
        Strings{"the seed at 198.51.100.1:7411 has been out of reach for 3m05s, so no group can be "
                "formed: Connection refused"});
  status.mutable_membership()->set_since_ms(5000);
  CHECK(FindProblems(status, {}, {}).empty());
}

}  // namespace
}  // namespace tutti
