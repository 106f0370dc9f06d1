// Daemons over real sockets on 127.0.0.1, without encryption. (With: tls_test.cc.)
#include "daemon/peer/peer_network_over_grpc.h"

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/peer/testing/peer_daemon.h"
#include "daemon/peer/testing/tcp_proxy.h"
#include "tutti/v1/peer.grpc.pb.h"

namespace tutti {
namespace {

constexpr absl::Duration kProbe = absl::Seconds(1);

PeerNetworkOverGrpc::Options Seed() {
  return {.peer_address = "127.0.0.1:0", .keepalive = kProbe, .timeout = kProbe};
}
PeerNetworkOverGrpc::Options Joins(const std::string& address) {
  return {.join = address, .keepalive = kProbe, .timeout = kProbe};
}
// To nobody in particular: it reaches who is named to it.
PeerNetworkOverGrpc::Options Alone() { return Seed(); }

NodeInfo At(PeerDaemon* daemon, const std::string& address) {
  NodeInfo node = daemon->self();
  node.address = address;
  return node;
}

TEST_CASE("a daemon joins: it finds the seed and its own address, and both speak") {
  PeerDaemon a('a', Seed());
  a.WaitFor("seed a");
  PeerDaemon b('b', Joins(a.address()));
  b.WaitFor("seed a");
  CHECK(b.self().address == b.address());
  b.Say(a.self(), 1);
  a.WaitFor("heard b 1");
  a.Say(b.self(), 2);
  b.WaitFor("heard a 2");
  a.Say(a.self(), 3);
  a.WaitFor("heard a 3");
}

TEST_CASE("any daemon leads to the seed") {
  PeerDaemon a('a', Seed());
  PeerDaemon b('b', Joins(a.address()));
  b.WaitFor("seed a");
  PeerDaemon c('c', Joins(b.address()));
  c.WaitFor("seed a");
  b.Say(c.self(), 1);
  c.WaitFor("heard b 1");
}

TEST_CASE("many messages in both directions, large ones among them, arrive in order") {
  constexpr uint64_t kMessages = 2000;
  PeerDaemon a('a', Alone());
  PeerDaemon b('b', Alone());
  const NodeInfo node_a = a.self();
  const NodeInfo node_b = b.self();
  // Before there is a link: both dial.
  for (uint64_t i = 1; i <= kMessages; ++i) {
    a.Say(node_b, i);
    b.Say(node_a, i);
    if (i % 50 != 0) continue;
    a.Say(node_b, SendReady{.epoch_id = std::string(16, 'e'), .data = std::string(65'536, 'x')});
  }
  a.WaitFor(absl::StrCat("heard b ", kMessages));
  for (uint64_t i = 1; i <= kMessages; ++i) {
    b.WaitFor(absl::StrCat("heard a ", i));
    if (i % 50 == 0) b.WaitFor("heard a 0");
  }
  CHECK(a.Log().empty());
  CHECK(b.Log().empty());
}

TEST_CASE("a daemon that ends says so: the others lose it at once, and it can come again") {
  PeerDaemon a('a', Seed());
  auto b = std::make_unique<PeerDaemon>('b', Joins(a.address()));
  b->WaitFor("seed a");
  b->Say(a.self(), 1);
  a.WaitFor("heard b 1");
  const MonotonicTime before = a.clock().Now();
  SECTION("who has dialled") {
    b->Stop();
    a.WaitFor("lost b");
    CHECK(a.why_lost() == "its daemon has ended");
    CHECK(a.clock().Now() - before < absl::Milliseconds(500));
  }
  SECTION("who was dialled") {
    const std::string address = a.address();
    a.Stop();
    b->WaitFor("lost a");
    CHECK(b->why_lost() == "its daemon has ended");
    CHECK(b->clock().Now() - before < absl::Milliseconds(500));
    // Another one at the same port.
    PeerNetworkOverGrpc::Options options = Seed();
    options.peer_address = address;
    PeerDaemon again('c', options);
    b->WaitFor("seed c");
    b->Say(again.self(), 5);
    again.WaitFor("heard b 5");
  }
}

TEST_CASE("nobody there, or another daemon: lost at once") {
  PeerDaemon a('a', Alone());
  PeerDaemon b('b', Alone());
  const MonotonicTime before = a.clock().Now();
  a.Say({.id = std::string(16, 'x'), .name = "x", .address = "127.0.0.1:1"}, 1);
  a.WaitFor("lost x");
  a.Say({.id = std::string(16, 'y'), .name = "y", .address = b.address()}, 1);
  a.WaitFor("lost y");
  CHECK(a.why_lost() == absl::StrCat("another daemon is there now: b (", b.address(), ")"));
  CHECK(a.clock().Now() - before < absl::Milliseconds(500));
}

TEST_CASE("a connection that is closed is noticed at once, by both; the next message dials again") {
  PeerDaemon a('a', Alone());
  PeerDaemon b('b', Alone());
  TcpProxy proxy(b.port());
  const NodeInfo node_b = At(&b, proxy.address());
  a.Say(node_b, 1);
  b.WaitFor("heard a 1");
  const MonotonicTime before = a.clock().Now();
  proxy.Cut();
  a.WaitFor("lost b");
  b.WaitFor("lost a");
  CHECK(a.clock().Now() - before < absl::Milliseconds(500));
  a.Say(node_b, 2);
  b.WaitFor("heard a 2");
}

TEST_CASE("a silent connection is noticed by both, in time + timeout + half a second") {
  PeerDaemon a('a', Alone());
  PeerDaemon b('b', Alone());
  TcpProxy proxy(b.port());
  a.Say(At(&b, proxy.address()), 1);
  b.WaitFor("heard a 1");
  proxy.Freeze();
  const MonotonicTime before = a.clock().Now();
  SECTION("nothing is said") {}
  SECTION("by who speaks, too") { a.Say(b.self(), 2); }
  a.WaitFor("lost b");
  b.WaitFor("lost a");
  const absl::Duration took = a.clock().Now() - before;
  INFO(absl::FormatDuration(took));
  CHECK(took < 2 * kProbe + absl::Milliseconds(500));
}

TEST_CASE("a healthy link is not probed to death") {
  PeerDaemon a('a', Alone());
  PeerDaemon b('b', Alone());
  a.Say(b.self(), 1);
  b.WaitFor("heard a 1");
  a.WaitFor("seed a");
  // Five probes, which by gRPC's defaults are too many.
  bool passed = false;
  Mutex mutex;
  CondVar changed;
  a.RunOnLoop([&] {
    a.After(5 * kProbe + kProbe / 2, [&] {
      MutexLock lock(&mutex);
      passed = true;
      changed.SignalAll();
    });
  });
  {
    MutexLock lock(&mutex);
    while (!passed) changed.Wait(&mutex);
  }
  a.Say(b.self(), 2);
  b.WaitFor("heard a 2");
  CHECK(a.Log().empty());
  CHECK(b.Log().empty());
}

TEST_CASE("an address that gives no answer: lost in time + timeout") {
  PeerDaemon a('a', Alone());
  PeerDaemon b('b', Alone());
  TcpProxy proxy(b.port());
  proxy.Freeze();
  const MonotonicTime before = a.clock().Now();
  a.Say(At(&b, proxy.address()), 1);
  a.WaitFor("lost b");
  CHECK(a.clock().Now() - before < 2 * kProbe + absl::Milliseconds(500));
}

TEST_CASE("a peer that reads nothing: its link ends when more waits than may") {
  PeerNetworkOverGrpc::Options options = Alone();
  options.outbox_bytes_max = 1 << 20;
  // Longer than this test: it is not silence that ends it.
  options.keepalive = absl::Seconds(60);
  options.timeout = absl::Seconds(60);
  PeerDaemon a('a', options);
  PeerDaemon b('b', options);
  TcpProxy proxy(b.port());
  const NodeInfo node_b = At(&b, proxy.address());
  a.Say(node_b, 1);
  b.WaitFor("heard a 1");
  proxy.Freeze();
  // Buffers of the kernel take some MiB.
  const SendReady message{.epoch_id = std::string(16, 'e'), .data = std::string(65'536, 'x')};
  a.SayOften(node_b, message, 400);
  a.WaitFor("lost b");
  CHECK(a.why_lost().find("it does not read what it is sent") == 0);
}

TEST_CASE("who sends what cannot be, or nothing, is not listened to; others are") {
  PeerDaemon a('a', Alone());
  const auto channel = grpc::CreateChannel(a.address(), grpc::InsecureChannelCredentials());
  const auto stub = v1::PeerService::NewStub(channel);
  grpc::ClientContext context;
  const auto stream = stub->Link(&context);
  v1::LinkFrame frame;
  SECTION("no Hello") { frame.mutable_welcome()->mutable_node()->set_id(std::string(16, 'x')); }
  SECTION("an id of three bytes") { frame.mutable_hello()->mutable_node()->set_id("xyz"); }
  SECTION("nothing that is known") {}
  REQUIRE(stream->Write(frame));
  v1::LinkFrame answer;
  REQUIRE(stream->Read(&answer));
  CHECK(answer.end().reason() == v1::LINK_END_REASON_PROTOCOL);
  CHECK_FALSE(stream->Read(&answer));
  CHECK(stream->Finish().ok());
  PeerDaemon b('b', Alone());
  b.Say(a.self(), 1);
  a.WaitFor("heard b 1");
}

TEST_CASE("addresses that cannot be are refused at the start, saying what to do") {
  const RealClock clock;
  const auto loop = EventLoop::Create(&clock, "loop");
  REQUIRE(loop.ok());
  PeerNetworkOverGrpc::Options options{
      .clock = &clock, .loop = loop->get(), .id = std::string(16, 'a'), .name = "a"};
  const auto problem = [&] {
    return std::string(PeerNetworkOverGrpc::Create(options).status().message());
  };
  options.peer_address = "10.0.0.7";
  CHECK(problem().find("'10.0.0.7' is no address such as") == 0);
  options.peer_address = "0.0.0.0:7411";
  CHECK(problem().find("set peer_address") != std::string::npos);
  options.peer_address = "203.0.113.77:7411";
  CHECK(problem().find("cannot listen on 203.0.113.77:7411: ") == 0);
}

}  // namespace
}  // namespace tutti
