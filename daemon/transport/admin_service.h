// The service of operators and of the tool. Answers on gRPC's threads from the published snapshot:
// nothing here touches the control loop, but for Drain, which posts to it and does not wait. What
// other daemons are asked (GetCluster) ends in time, whatever they do.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "daemon/core/core.h"
#include "daemon/core/process.h"
#include "daemon/transport/snapshot_convert.h"
#include "tutti/v1/admin.grpc.pb.h"

namespace tutti {

// What the daemon is, for as long as it runs.
struct DaemonFacts {
  std::string node;
  std::string incarnation;
  std::string socket_dir;
  std::vector<std::string> backends;
  std::vector<std::string> missing_backends;
  MonotonicTime started;
};

// All of it outlives the server.
struct AdminServices {
  const Core* core = nullptr;
  const Clock* clock = nullptr;
  const ProcessProbe* processes = nullptr;
  // From any thread; does not block.
  std::function<void()> drain;
  // The next two are null if the daemon is in no cluster. From any thread; they do not block.
  std::function<v1::Membership()> membership;
  // Calls `done` once, after `wait` at the latest; false: too many look already.
  std::function<bool(absl::Duration wait, std::function<void(v1::GetClusterResponse)> done)>
      look_at_cluster;
};

class AdminService final : public v1::AdminService::CallbackService {
 public:
  AdminService(AdminServices services, DaemonFacts facts)
      : services_(std::move(services)), facts_(std::move(facts)) {}

  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const v1::GetStatusRequest* request,
                                      v1::GetStatusResponse* response) override;
  grpc::ServerUnaryReactor* ListGroups(grpc::CallbackServerContext* context,
                                       const v1::ListGroupsRequest* request,
                                       v1::ListGroupsResponse* response) override;
  grpc::ServerUnaryReactor* GetGroup(grpc::CallbackServerContext* context,
                                     const v1::GetGroupRequest* request,
                                     v1::GetGroupResponse* response) override;
  grpc::ServerUnaryReactor* ListSessions(grpc::CallbackServerContext* context,
                                         const v1::ListSessionsRequest* request,
                                         v1::ListSessionsResponse* response) override;
  grpc::ServerUnaryReactor* ListOps(grpc::CallbackServerContext* context,
                                    const v1::ListOpsRequest* request,
                                    v1::ListOpsResponse* response) override;
  grpc::ServerUnaryReactor* GetCluster(grpc::CallbackServerContext* context,
                                       const v1::GetClusterRequest* request,
                                       v1::GetClusterResponse* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context,
                                  const v1::DrainRequest* request,
                                  v1::DrainResponse* response) override;
  grpc::ServerUnaryReactor* SetFailpoint(grpc::CallbackServerContext* context,
                                         const v1::SetFailpointRequest* request,
                                         v1::SetFailpointResponse* response) override;

  // How this daemon is, for other daemons.
  void ShowSelf(v1::NodeStatus* status) const;

 private:
  uint64_t UptimeMs() const;
  SnapshotView View(const Snapshot& snapshot) const;

  const AdminServices services_;
  const DaemonFacts facts_;
};

}  // namespace tutti
