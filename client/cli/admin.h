// The tool's connection to a daemon's admin socket: calls with one deadline for all of them, and
// for a daemon that can't be reached, why not and what to do.
//
// Not thread-safe. Owned by the command that runs.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tutti/v1/admin.grpc.pb.h"

namespace tutti {

class Admin {
 public:
  // Connects to the daemon at `socket_dir` (absolute). Every call ends `timeout` from now at the
  // latest. Fails with kUnavailable (no socket, nobody listens), kPermissionDenied.
  static absl::StatusOr<Admin> Connect(const std::string& socket_dir, absl::Duration timeout);

  // Each fails with kUnavailable if the daemon does not answer in time, or as the daemon says.
  absl::StatusOr<v1::GetStatusResponse> GetStatus();
  // Waits for other daemons for half of the time that is left, at most.
  absl::StatusOr<v1::GetClusterResponse> GetCluster();
  absl::StatusOr<v1::ListGroupsResponse> ListGroups();
  absl::StatusOr<v1::GetGroupResponse> GetGroup(const std::string& name,
                                                const std::string& name_space);
  absl::StatusOr<v1::ListSessionsResponse> ListSessions();
  absl::StatusOr<v1::ListOpsResponse> ListOps(const v1::ListOpsRequest& request);
  absl::StatusOr<v1::DrainResponse> Drain();
  absl::StatusOr<grpc::health::v1::HealthCheckResponse> CheckHealth();

  // Waits until the daemon's process has ended. Fails with kDeadlineExceeded after `timeout`, and
  // with kUnimplemented if the process can't be seen from here (another PID namespace).
  absl::Status WaitForEnd(absl::Duration timeout);

 private:
  Admin(std::string socket_path, int pid, absl::Duration timeout);

  template <typename Response, typename Call>
  absl::StatusOr<Response> Run(const Call& call);

  std::string socket_path_;
  int pid_;  // of the daemon; 0 if it can't be seen
  absl::Duration timeout_;
  MonotonicTime deadline_;
  std::unique_ptr<v1::AdminService::Stub> stub_;
  std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

}  // namespace tutti
