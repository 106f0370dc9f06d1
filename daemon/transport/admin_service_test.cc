// The operators' service over a real server, while the control loop does not run at all.
#include "daemon/transport/admin_service.h"

#include <grpcpp/create_channel_posix.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/failpoint.h"
#include "base/mutex.h"
#include "base/version.h"
#include "daemon/core/testing/core_fixture.h"
#include "daemon/transport/grpc_server.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "proto/grpc_status.h"

namespace tutti {
namespace {

// Nothing is stepped while calls are under way: the loop counts as blocked.
struct World {
  World() {
    std::array<int, 2> ends{};
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) == 0);
    server->Serve(UniqueFd(ends[0]));
    channel = grpc::CreateInsecureChannelFromFd("test", ends[1]);
    stub = v1::AdminService::NewStub(channel);
  }
  ~World() { server->Shutdown(absl::Seconds(1)); }

  TestCore test;
  TestClient client{&test};
  RealClock clock;
  std::atomic<int> drains{0};
  AdminService service{{.core = test.core.get(),
                        .clock = &clock,
                        .processes = &test.processes,
                        .drain = [this] { ++drains; }},
                       {.node = "vm",
                        .incarnation = "0123456789abcdef",
                        .socket_dir = "/run/tutti",
                        .backends = {"local"},
                        .missing_backends = {"gloo: no"},
                        .started = clock.Now() - absl::Seconds(5)}};
  std::unique_ptr<GrpcServer> server = GrpcServer::Start(&service, "tutti.v1.AdminService");
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::AdminService::Stub> stub;
};

TEST_CASE("status answers while the loop is blocked, with the daemon's own facts") {
  World world;
  grpc::ClientContext context;
  v1::GetStatusResponse status;
  REQUIRE(world.stub->GetStatus(&context, {}, &status).ok());
  CHECK(status.version() == kVersion);
  CHECK(status.pid() == static_cast<uint32_t>(getpid()));
  CHECK(status.node() == "vm");
  CHECK(status.incarnation() == "0123456789abcdef");
  CHECK(status.uptime_ms() >= 5000);
  CHECK(status.socket_dir() == "/run/tutti");
  CHECK(status.backends(0) == "local");
  CHECK(status.missing_backends(0) == "gloo: no");
  CHECK(status.snapshot().number() >= 1);
}

TEST_CASE("lists and groups answer; a group that is not there is NotFound") {
  World world;
  world.client.Join("dp", 0, 2);
  world.test.Group("dp");
  {
    grpc::ClientContext context;
    v1::ListGroupsResponse groups;
    REQUIRE(world.stub->ListGroups(&context, {}, &groups).ok());
    REQUIRE(groups.groups_size() == 1);
    CHECK(groups.groups(0).joined() == 1);
  }
  {
    grpc::ClientContext context;
    v1::ListSessionsResponse sessions;
    REQUIRE(world.stub->ListSessions(&context, {}, &sessions).ok());
    CHECK(sessions.sessions_size() == 1);
  }
  {
    grpc::ClientContext context;
    v1::ListOpsResponse ops;
    CHECK(world.stub->ListOps(&context, {}, &ops).ok());
  }
  v1::GetGroupRequest request;
  request.set_name("dp");
  v1::GetGroupResponse group;
  {
    grpc::ClientContext context;
    REQUIRE(world.stub->GetGroup(&context, request, &group).ok());
    REQUIRE(group.ranks_size() == 2);
    CHECK(group.ranks(1).activity() == v1::RANK_ACTIVITY_NEVER_JOINED);
    CHECK(group.ranks(1).detail() == "has not joined");
  }
  request.set_name("no");
  grpc::ClientContext context;
  const grpc::Status status = world.stub->GetGroup(&context, request, &group);
  CHECK(status.error_code() == grpc::StatusCode::NOT_FOUND);
  CHECK(FailureOf(status, context).message == "no group \"no\"");
}

TEST_CASE("a daemon in no cluster answers with itself") {
  World world;
  grpc::ClientContext context;
  v1::GetClusterResponse cluster;
  REQUIRE(world.stub->GetCluster(&context, {}, &cluster).ok());
  CHECK_FALSE(cluster.has_membership());
  REQUIRE(cluster.nodes_size() == 1);
  CHECK(cluster.nodes(0).node().id() == "0123456789abcdef");
  CHECK(cluster.nodes(0).node().name() == "vm");
  CHECK(cluster.nodes(0).self());
  CHECK(cluster.nodes(0).state() == v1::NODE_STATE_ANSWERED);
  CHECK(cluster.nodes(0).status().version() == kVersion);
  CHECK(cluster.nodes(0).status().uptime_ms() >= 5000);
}

TEST_CASE("a look at the cluster takes as long as asked, within bounds; too many are refused") {
  World world;
  // What gRPC orders between its threads and this one, ThreadSanitizer does not see.
  Mutex mutex;
  std::vector<absl::Duration> waits;
  bool room = true;
  AdminServices services{
      .core = world.test.core.get(), .clock = &world.clock, .processes = &world.test.processes};
  services.membership = [] {
    v1::Membership membership;
    membership.set_links(3);
    return membership;
  };
  services.look_at_cluster = [&](absl::Duration wait, const auto& done) {
    {
      MutexLock lock(&mutex);
      waits.push_back(wait);
      if (!room) return false;
    }
    v1::GetClusterResponse cluster;
    cluster.set_left_out(7);
    done(std::move(cluster));
    return true;
  };
  AdminService service(services, {});
  const auto server = GrpcServer::Start(&service, "tutti.v1.AdminService");
  std::array<int, 2> ends{};
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) == 0);
  server->Serve(UniqueFd(ends[0]));
  {
    const auto stub = v1::AdminService::NewStub(grpc::CreateInsecureChannelFromFd("test", ends[1]));
    const auto look = [&](uint32_t wait_ms, v1::GetClusterResponse* cluster) {
      grpc::ClientContext context;
      v1::GetClusterRequest request;
      request.set_wait_ms(wait_ms);
      return stub->GetCluster(&context, request, cluster);
    };
    v1::GetClusterResponse cluster;
    for (const uint32_t wait_ms : {0U, 1U, 60'000U}) CHECK(look(wait_ms, &cluster).ok());
    CHECK(cluster.left_out() == 7);
    {
      MutexLock lock(&mutex);
      room = false;
    }
    CHECK(look(0, &cluster).error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
    grpc::ClientContext context;
    v1::GetStatusResponse status;
    REQUIRE(stub->GetStatus(&context, {}, &status).ok());
    CHECK(status.membership().links() == 3);
  }
  server->Shutdown(absl::Seconds(1));
  MutexLock lock(&mutex);
  CHECK(waits == std::vector{absl::Milliseconds(500), absl::Milliseconds(1), absl::Seconds(5),
                             absl::Milliseconds(500)});
}

TEST_CASE("a drain is passed on, and answered at once") {
  World world;
  grpc::ClientContext context;
  v1::DrainResponse response;
  REQUIRE(world.stub->Drain(&context, {}, &response).ok());
  CHECK(world.drains == 1);
}

TEST_CASE("failpoints are set and queried, or Unimplemented") {
  World world;
  v1::SetFailpointRequest request;
  request.set_name("admin_test.point");
  request.set_action(v1::FAILPOINT_ACTION_MUTATE);
  v1::SetFailpointResponse response;
  grpc::ClientContext context;
  const grpc::Status status = world.stub->SetFailpoint(&context, request, &response);
  if (!kFailpointsBuiltIn) {
    CHECK(status.error_code() == grpc::StatusCode::UNIMPLEMENTED);
    return;
  }
  REQUIRE(status.ok());
  CHECK(Mutated("admin_test.point"));
  {
    grpc::ClientContext query;
    request.set_action(v1::FAILPOINT_ACTION_UNSPECIFIED);
    REQUIRE(world.stub->SetFailpoint(&query, request, &response).ok());
    CHECK(response.hits() == 1);
  }
  CHECK(Mutated("admin_test.point"));
  for (const bool named : {true, false}) {
    grpc::ClientContext wrong;
    request.set_name(named ? "x" : "");
    request.set_action(named ? static_cast<v1::FailpointAction>(77) : v1::FAILPOINT_ACTION_OFF);
    CHECK(world.stub->SetFailpoint(&wrong, request, &response).error_code() ==
          grpc::StatusCode::INVALID_ARGUMENT);
  }
}

TEST_CASE("health tells of the server and of its service") {
  World world;
  const auto health = grpc::health::v1::Health::NewStub(world.channel);
  const auto check = [&](const std::string& service) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    grpc::health::v1::HealthCheckResponse response;
    const grpc::Status status = health->Check(&context, request, &response);
    return status.ok() ? static_cast<int>(response.status()) : -1;
  };
  CHECK(check("") == grpc::health::v1::HealthCheckResponse::SERVING);
  CHECK(check("tutti.v1.AdminService") == grpc::health::v1::HealthCheckResponse::SERVING);
  CHECK(check("nonsense") == -1);
  world.server->SetServing(false);
  CHECK(check("") == grpc::health::v1::HealthCheckResponse::NOT_SERVING);
  CHECK(check("tutti.v1.AdminService") == grpc::health::v1::HealthCheckResponse::NOT_SERVING);
}

}  // namespace
}  // namespace tutti
