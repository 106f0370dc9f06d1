// Looks at daemons over real sockets on 127.0.0.1. (Over mutual TLS: tests/nodes.)
#include "daemon/peer/cluster_view.h"

#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/peer/testing/peer_daemon.h"
#include "daemon/peer/testing/tcp_proxy.h"

namespace tutti {
namespace {

PeerNetworkOverGrpc::Options Seed() { return {.peer_address = "127.0.0.1:0"}; }

// Results of looks, which come on any thread.
class Looks {
 public:
  bool Start(PeerDaemon* from, absl::Duration wait) {
    return from->view().Look(wait, [this](v1::GetClusterResponse result) {
      MutexLock lock(&mutex_);
      results_.push_back(std::move(result));
      changed_.SignalAll();
    });
  }
  // The first that is not taken yet.
  v1::GetClusterResponse Take() {
    MutexLock lock(&mutex_);
    while (results_.empty()) changed_.Wait(&mutex_);
    v1::GetClusterResponse result = std::move(results_.front());
    results_.erase(results_.begin());
    return result;
  }
  v1::GetClusterResponse Look(PeerDaemon* from, absl::Duration wait = absl::Seconds(5)) {
    CHECK(Start(from, wait));
    return Take();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<v1::GetClusterResponse> results_ ABSL_GUARDED_BY(mutex_);
};

std::map<std::string, v1::NodeState> States(const v1::GetClusterResponse& result) {
  std::map<std::string, v1::NodeState> states;
  for (const v1::ClusterNode& node : result.nodes()) states[node.node().name()] = node.state();
  return states;
}

// Somebody at `address`, of whom `of` believes that it is linked.
void Believe(PeerDaemon* of, char id, const std::string& address) {
  of->view().known().LinkIsUp(
      {.id = std::string(16, id), .name = std::string(1, id), .address = address});
}

// The two have a link, and both know.
void WaitForSeed(PeerDaemon* a, PeerDaemon* joins) {
  joins->WaitFor("seed a");
  // Its loop says Welcome before it takes note of the link, in one task.
  a->RunOnLoop([] {});
}

TEST_CASE("each daemon sees all, and where it stands") {
  PeerDaemon a('a', Seed());
  PeerDaemon b('b', {.join = a.address()});
  PeerDaemon c('c', {.join = a.address()});
  WaitForSeed(&a, &b);
  WaitForSeed(&a, &c);
  Looks looks;
  for (PeerDaemon* const from : {&a, &b, &c}) {
    const v1::GetClusterResponse result = looks.Look(from);
    CHECK(States(result) == std::map<std::string, v1::NodeState>{{"a", v1::NODE_STATE_ANSWERED},
                                                                 {"b", v1::NODE_STATE_ANSWERED},
                                                                 {"c", v1::NODE_STATE_ANSWERED}});
    CHECK(result.nodes(0).node().id() == from->self().id);
    for (const v1::ClusterNode& node : result.nodes()) {
      CHECK(node.status().version() == node.node().name());
      CHECK(node.seed() == (node.node().name() == "a"));
    }
    CHECK(result.membership().connected());
    CHECK(result.membership().seed().name() == "a");
    CHECK(result.membership().links() == (from == &a ? 2 : 1));
  }
  CHECK(looks.Look(&b).membership().join() == a.address());
}

TEST_CASE("who hangs is silent when time is up, who is not there at once") {
  PeerDaemon a('a', Seed());
  a.WaitFor("seed a");
  PeerDaemon b('b', Seed());
  TcpProxy proxy(b.port());
  Looks looks;
  SECTION("it hangs") {
    proxy.Freeze();
    Believe(&a, 'b', proxy.address());
    const MonotonicTime before = a.clock().Now();
    const auto states = States(looks.Look(&a, absl::Milliseconds(200)));
    const absl::Duration took = a.clock().Now() - before;
    CHECK(states.at("b") == v1::NODE_STATE_SILENT);
    CHECK(took >= absl::Milliseconds(190));
    CHECK(took < absl::Seconds(1));
  }
  SECTION("nobody is there") {
    Believe(&a, 'x', "127.0.0.1:1");
    const MonotonicTime before = a.clock().Now();
    CHECK(States(looks.Look(&a)).at("x") == v1::NODE_STATE_SILENT);
    CHECK(a.clock().Now() - before < absl::Seconds(2));
  }
  SECTION("its address is not known") {
    Believe(&a, 'x', "");
    CHECK(States(looks.Look(&a)).at("x") == v1::NODE_STATE_SILENT);
  }
  SECTION("another is there") {
    Believe(&a, 'x', b.address());
    CHECK(States(looks.Look(&a)).at("x") == v1::NODE_STATE_SILENT);
  }
}

TEST_CASE("a daemon that does not know the question is too old to say") {
  PeerDaemon a('a', Seed());
  PeerDaemon b('b', {.join = a.address()}, PeerDaemon::Age::kTooOldToSay);
  WaitForSeed(&a, &b);
  Looks looks;
  CHECK(States(looks.Look(&a)).at("b") == v1::NODE_STATE_TOO_OLD);
}

TEST_CASE("four look at a time; the end of the daemon ends their looks") {
  PeerDaemon a('a', Seed());
  a.WaitFor("seed a");
  PeerDaemon b('b', Seed());
  TcpProxy proxy(b.port());
  proxy.Freeze();
  Believe(&a, 'b', proxy.address());
  Looks looks;
  const MonotonicTime before = a.clock().Now();
  for (int i = 0; i < 4; ++i) CHECK(looks.Start(&a, absl::Minutes(10)));
  CHECK_FALSE(looks.Start(&a, absl::Minutes(10)));
  SECTION("asked to") {
    a.view().Cancel();
    for (int i = 0; i < 4; ++i) CHECK(States(looks.Take()).at("b") == v1::NODE_STATE_SILENT);
    // It finds nobody any more, and says so at once.
    CHECK(States(looks.Look(&a, absl::Minutes(10))).at("b") == v1::NODE_STATE_SILENT);
  }
  SECTION("with the network") {
    a.Stop();
    for (int i = 0; i < 4; ++i) CHECK(States(looks.Take()).at("b") == v1::NODE_STATE_SILENT);
  }
  CHECK(a.clock().Now() - before < absl::Seconds(10));
}

}  // namespace
}  // namespace tutti
