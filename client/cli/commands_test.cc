// The commands against a real gRPC server on a Unix socket: what they print, how they exit, and how
// long they take when nothing answers.
#include "client/cli/commands.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <latch>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/socket_paths.h"
#include "base/unique_fd.h"
#include "base/version.h"
#include "client/cli/problems.h"
#include "tutti/v1/admin.grpc.pb.h"

namespace tutti {
namespace {

class TemporaryDir {
 public:
  TemporaryDir() { REQUIRE(mkdtemp(path_.data()) != nullptr); }
  ~TemporaryDir() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/tutti-cli-XXXXXX";
};

// Answers what a test has put into it. Whoever looks at it or changes it holds `mutex`: what gRPC
// orders between its threads and the test's, ThreadSanitizer does not see.
class FakeAdmin final : public v1::AdminService::Service {
 public:
  explicit FakeAdmin(const std::string& dir) {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.AddListeningPort(GrpcTarget(AdminSocketPath(dir)), grpc::InsecureServerCredentials());
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    REQUIRE(server_ != nullptr);
    MutexLock lock(&mutex);
    status.set_version("9.9.9");
    status.set_pid(4242);
    status.set_node("here");
    status.set_socket_dir(dir);
    auto* const group = groups.add_groups();
    group->set_name("dp");
    group->set_namespace_("job");
    group->set_epoch(1);
    group->set_world_size(2);
    group->set_state(v1::GROUP_STATE_READY);
  }
  ~FakeAdmin() override {
    go_on.count_down();
    server_->Shutdown();
  }

  void SetServing(bool serving) { server_->GetHealthCheckService()->SetServingStatus(serving); }

  grpc::Status GetStatus(grpc::ServerContext*, const v1::GetStatusRequest*,
                         v1::GetStatusResponse* response) override {
    if (Hangs()) go_on.wait();
    MutexLock lock(&mutex);
    *response = status;
    return grpc::Status::OK;
  }
  grpc::Status GetCluster(grpc::ServerContext*, const v1::GetClusterRequest* request,
                          v1::GetClusterResponse* response) override {
    MutexLock lock(&mutex);
    last_wait_ms = request->wait_ms();
    *response = cluster;
    return cluster.nodes().empty() ? grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "")
                                   : grpc::Status::OK;
  }
  grpc::Status ListGroups(grpc::ServerContext*, const v1::ListGroupsRequest*,
                          v1::ListGroupsResponse* response) override {
    MutexLock lock(&mutex);
    *response = groups;
    return grpc::Status::OK;
  }
  grpc::Status GetGroup(grpc::ServerContext*, const v1::GetGroupRequest* request,
                        v1::GetGroupResponse* response) override {
    MutexLock lock(&mutex);
    const auto& group = groups.groups(0);
    if (request->name() != group.name() ||
        (!request->namespace_().empty() && request->namespace_() != group.namespace_())) {
      return grpc::Status(grpc::StatusCode::NOT_FOUND, "no group \"" + request->name() + "\"");
    }
    *response->mutable_summary() = group;
    return grpc::Status::OK;
  }
  grpc::Status ListSessions(grpc::ServerContext*, const v1::ListSessionsRequest*,
                            v1::ListSessionsResponse* response) override {
    response->add_sessions()->set_label("trainer");
    return grpc::Status::OK;
  }
  grpc::Status ListOps(grpc::ServerContext*, const v1::ListOpsRequest* request,
                       v1::ListOpsResponse*) override {
    MutexLock lock(&mutex);
    last_ops = *request;
    return grpc::Status::OK;
  }
  grpc::Status Drain(grpc::ServerContext*, const v1::DrainRequest*, v1::DrainResponse*) override {
    MutexLock lock(&mutex);
    ++drains;
    return grpc::Status::OK;
  }

  // Changes or reads what is below, as a test does.
  template <typename Change>
  void With(Change change) {
    MutexLock lock(&mutex);
    change();
  }

  Mutex mutex;
  v1::GetStatusResponse status;
  v1::ListGroupsResponse groups;
  v1::GetClusterResponse cluster;  // without nodes: as a daemon that does not know the call
  uint32_t last_wait_ms = 0;
  v1::ListOpsRequest last_ops;
  int drains = 0;
  bool hangs = false;
  std::latch go_on{1};

 private:
  bool Hangs() {
    MutexLock lock(&mutex);
    return hangs;
  }

  std::unique_ptr<grpc::Server> server_;
};

bool Has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("every command shows the daemon's answer and succeeds") {
  const TemporaryDir dir;
  FakeAdmin admin(dir.path());
  const CommandOptions options{.socket_dir = dir.path()};
  const auto check = [](const CommandResult& result, const std::string& part) {
    INFO(result.out << result.error);
    CHECK(result.exit_code == kExitOk);
    CHECK(result.error.empty());
    CHECK(Has(result.out, part));
  };
  check(RunStatus(options), "tutti 9.9.9 on here   pid 4242");
  check(RunStatus(options), "job/dp");
  check(RunGroups(options), "job/dp");
  check(RunGroup(options, "dp", ""), "group dp   epoch 1   ready");
  check(RunGroup(options, "dp", "job"), "group dp");
  check(RunGroup(options, "job/dp", ""), "group dp");  // as the tables show it
  check(RunSessions(options), "trainer");
  check(RunOps(options, true, 7, "dp"), "no operations");
  admin.With([&] {
    CHECK((admin.last_ops.failed_only() && admin.last_ops.limit() == 7));
    CHECK(admin.last_ops.group() == "dp");
  });
  check(RunHealth(options), "serving\n");
  check(RunVersion(options), "tuttid  9.9.9");
  check(RunDrain(options, std::nullopt), "draining");
  admin.With([&] { CHECK(admin.drains == 1); });
}

TEST_CASE("json is the reply with the names of the .proto files, zeros included") {
  const TemporaryDir dir;
  FakeAdmin admin(dir.path());
  const CommandOptions options{.socket_dir = dir.path(), .json = true};
  CHECK(Has(RunStatus(options).out, "\"socket_dir\": \"" + dir.path() + "\""));
  CHECK(Has(RunStatus(options).out, "\"works_failed\": \"0\""));
  CHECK(Has(RunGroups(options).out, "\"state\": \"GROUP_STATE_READY\""));
  CHECK(Has(RunGroup(options, "dp", "").out, "\"world_size\": 2"));
  CHECK(Has(RunSessions(options).out, "\"label\": \"trainer\""));
  CHECK(Has(RunOps(options, false, 0, "").out, "\"ops\": []"));
  CHECK(Has(RunHealth(options).out, "\"status\": \"SERVING\""));
  CHECK(RunVersion(options).out == std::string("{\n \"tool\": \"") + kVersion +
                                       "\",\n \"daemon\": \"9.9.9\",\n \"protocol\": 1\n}\n");
}

TEST_CASE("--check fails for failed groups, stalled ones, and a stuck control loop") {
  const TemporaryDir dir;
  FakeAdmin admin(dir.path());
  const CommandOptions options{.socket_dir = dir.path(), .check = true};
  CHECK(RunStatus(options).exit_code == kExitOk);
  CHECK(RunGroup(options, "dp", "").exit_code == kExitOk);

  auto* const group = admin.groups.mutable_groups(0);
  admin.With([&] { group->set_oldest_pending_ms(kStalledMs + 1); });
  CHECK(RunStatus(options).exit_code == kExitProblem);
  CHECK(RunGroups(options).exit_code == kExitProblem);
  CHECK(RunGroup(options, "dp", "").exit_code == kExitProblem);
  admin.With([&] { group->set_oldest_pending_ms(0); });

  admin.With([&] { group->set_state(v1::GROUP_STATE_FAILED); });
  CHECK(RunStatus(options).exit_code == kExitProblem);
  CHECK(RunStatus({.socket_dir = dir.path()}).exit_code == kExitOk);
  admin.With([&] { group->set_state(v1::GROUP_STATE_CLOSED); });
  CHECK(RunStatus(options).exit_code == kExitOk);

  admin.With([&] { admin.status.mutable_snapshot()->set_age_ms(kStaleMs + 1); });
  CHECK(RunStatus(options).exit_code == kExitProblem);
}

TEST_CASE(
    "the cluster: other daemons get half of the time; --check fails for who is out of reach") {
  const TemporaryDir dir;
  FakeAdmin admin(dir.path());
  CommandOptions options{.socket_dir = dir.path()};
  CHECK(RunClusterStatus(options).exit_code == kExitProblem);
  CHECK(Has(RunClusterStatus(options).error, "too old to look at the cluster"));
  admin.With([&] {
    v1::ClusterNode* const node = admin.cluster.add_nodes();
    node->mutable_node()->set_name("gpu-1");
    node->set_state(v1::NODE_STATE_ANSWERED);
  });
  CHECK(Has(RunClusterStatus(options).out, "gpu-1"));
  admin.With([&] { CHECK((admin.last_wait_ms > 300 && admin.last_wait_ms <= 450)); });
  options.timeout = absl::Seconds(4);
  options.json = true;
  CHECK(Has(RunClusterStatus(options).out, "\"state\": \"NODE_STATE_ANSWERED\""));
  admin.With([&] { CHECK((admin.last_wait_ms > 1000 && admin.last_wait_ms <= 1800)); });
  options.check = true;
  CHECK(RunClusterStatus(options).exit_code == kExitOk);
  admin.With([&] { admin.cluster.mutable_nodes(0)->set_state(v1::NODE_STATE_SILENT); });
  CHECK(RunClusterStatus(options).exit_code == kExitProblem);
  options.check = false;
  CHECK(RunClusterStatus(options).exit_code == kExitOk);
}

TEST_CASE("health tells serving from draining and stuck") {
  const TemporaryDir dir;
  FakeAdmin admin(dir.path());
  const CommandOptions options{.socket_dir = dir.path()};
  admin.With([&] { admin.status.mutable_snapshot()->set_age_ms(9800); });
  CHECK(RunHealth(options).exit_code == kExitProblem);
  CHECK(RunHealth(options).out == "stuck: the control loop has not answered for 9.8 s\n");
  admin.With([&] {
    admin.status.clear_snapshot();
    admin.status.set_draining(true);
  });
  admin.SetServing(false);
  CHECK(RunHealth(options).exit_code == kExitProblem);
  CHECK(RunHealth(options).out == "not serving: draining\n");
}

TEST_CASE("a group that does not exist is a problem, not a missing daemon") {
  const TemporaryDir dir;
  FakeAdmin admin(dir.path());
  const CommandResult result = RunGroup({.socket_dir = dir.path()}, "job/nope", "");
  CHECK(result.exit_code == kExitProblem);
  CHECK(result.error == "tutti: no group \"job/nope\"\n");
}

TEST_CASE("whatever hangs, the answer comes in time") {
  const TemporaryDir dir;
  FakeAdmin admin(dir.path());
  admin.With([&] { admin.hangs = true; });
  const MonotonicTime start = RealClock().Now();
  const CommandResult result =
      RunStatus({.socket_dir = dir.path(), .timeout = absl::Milliseconds(300)});
  CHECK(RealClock().Now() - start <
        absl::Milliseconds(1500));  // 5 times the timeout: busy machines
  CHECK(result.exit_code == kExitUnreachable);
  CHECK(Has(result.error, "does not answer within 270ms"));
  CHECK(Has(result.error, std::to_string(getpid())));  // the daemon, here
}

TEST_CASE("no daemon: says where, why, and what to do") {
  const TemporaryDir dir;
  const CommandOptions options{.socket_dir = dir.path()};
  const CommandResult missing = RunStatus(options);
  CHECK(missing.exit_code == kExitUnreachable);
  CHECK(Has(missing.error, dir.path() + "/admin.sock: the socket does not exist"));
  CHECK(Has(missing.error, "--socket_dir"));

  // A socket's file whose daemon has died.
  const UniqueFd dead(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  AdminSocketPath(dir.path()).copy(address.sun_path, sizeof(address.sun_path) - 1);
  REQUIRE(bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  const CommandResult refused = RunHealth(options);
  CHECK(refused.exit_code == kExitUnreachable);
  CHECK(Has(refused.error, "nobody listens"));

  const CommandResult version = RunVersion(options);
  CHECK(version.exit_code == kExitUnreachable);
  CHECK(Has(version.out, kVersion));
}

TEST_CASE("no permission: says so") {
  if (geteuid() == 0) {
    std::printf("SKIPPED: root may open every socket\n");
    return;
  }
  const TemporaryDir dir;
  FakeAdmin admin(dir.path());
  REQUIRE(chmod(AdminSocketPath(dir.path()).c_str(), 0) == 0);
  const CommandResult result = RunStatus({.socket_dir = dir.path()});
  CHECK(result.exit_code == kExitUnreachable);
  CHECK(Has(result.error, "permission denied"));
}

TEST_CASE("draining waits for the daemon's process, and for no longer than it is told to") {
  const TemporaryDir dir;
  FakeAdmin admin(dir.path());  // in this process, which goes on
  const CommandResult result = RunDrain({.socket_dir = dir.path()}, absl::Milliseconds(20));
  admin.With([&] { CHECK(admin.drains == 1); });
  CHECK(result.exit_code == kExitProblem);
  CHECK(Has(result.error, "still draining after 20ms"));
}

}  // namespace
}  // namespace tutti
