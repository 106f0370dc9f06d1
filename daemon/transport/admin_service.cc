#include "daemon/transport/admin_service.h"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/version.h"
#include "daemon/transport/node_status.h"
#include "proto/grpc_status.h"

namespace tutti {
namespace {

// As the .proto says.
constexpr uint32_t kClusterWaitMs = 500;
constexpr uint32_t kClusterWaitMaxMs = 5000;

grpc::ServerUnaryReactor* End(grpc::CallbackServerContext* context, const grpc::Status& status) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(status);
  return reactor;
}

std::optional<FailpointAction> FromProto(v1::FailpointAction action) {
  switch (action) {
    case v1::FAILPOINT_ACTION_UNSPECIFIED:
      return FailpointAction::kQuery;
    case v1::FAILPOINT_ACTION_OFF:
      return FailpointAction::kOff;
    case v1::FAILPOINT_ACTION_PAUSE:
      return FailpointAction::kPause;
    case v1::FAILPOINT_ACTION_MUTATE:
      return FailpointAction::kMutate;
    default:
      return std::nullopt;
  }
}

}  // namespace

SnapshotView AdminService::View(const Snapshot& snapshot) const {
  Failpoint("admin.before_answer");
  return {.snapshot = snapshot, .now = services_.clock->Now(), .processes = *services_.processes};
}

uint64_t AdminService::UptimeMs() const {
  return static_cast<uint64_t>(absl::ToInt64Milliseconds(services_.clock->Now() - facts_.started));
}

void AdminService::ShowSelf(v1::NodeStatus* status) const {
  const std::shared_ptr<const Snapshot> snapshot = services_.core->snapshot();
  ShowNode(View(*snapshot), status);
  status->set_version(kVersion);
  status->set_uptime_ms(UptimeMs());
}

grpc::ServerUnaryReactor* AdminService::GetStatus(grpc::CallbackServerContext* context,
                                                  const v1::GetStatusRequest* /*request*/,
                                                  v1::GetStatusResponse* response) {
  const std::shared_ptr<const Snapshot> snapshot = services_.core->snapshot();
  ShowStatus(View(*snapshot), response);
  response->set_version(kVersion);
  response->set_pid(static_cast<uint32_t>(getpid()));
  response->set_node(facts_.node);
  response->set_incarnation(facts_.incarnation);
  response->set_uptime_ms(UptimeMs());
  response->set_socket_dir(facts_.socket_dir);
  for (const std::string& backend : facts_.backends) response->add_backends(backend);
  for (const std::string& missing : facts_.missing_backends) {
    response->add_missing_backends(missing);
  }
  if (services_.membership) *response->mutable_membership() = services_.membership();
  return End(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* AdminService::ListGroups(grpc::CallbackServerContext* context,
                                                   const v1::ListGroupsRequest* request,
                                                   v1::ListGroupsResponse* response) {
  const std::shared_ptr<const Snapshot> snapshot = services_.core->snapshot();
  *response = ShowGroups(View(*snapshot), *request);
  return End(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* AdminService::GetGroup(grpc::CallbackServerContext* context,
                                                 const v1::GetGroupRequest* request,
                                                 v1::GetGroupResponse* response) {
  const std::shared_ptr<const Snapshot> snapshot = services_.core->snapshot();
  Result<v1::GetGroupResponse> group = ShowGroup(View(*snapshot), *request);
  if (!group.ok()) return End(context, FinishWith(group.failure(), context));
  *response = std::move(*group);
  return End(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* AdminService::ListSessions(grpc::CallbackServerContext* context,
                                                     const v1::ListSessionsRequest* request,
                                                     v1::ListSessionsResponse* response) {
  const std::shared_ptr<const Snapshot> snapshot = services_.core->snapshot();
  *response = ShowSessions(View(*snapshot), *request);
  return End(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* AdminService::ListOps(grpc::CallbackServerContext* context,
                                                const v1::ListOpsRequest* request,
                                                v1::ListOpsResponse* response) {
  const std::shared_ptr<const Snapshot> snapshot = services_.core->snapshot();
  *response = ShowOps(View(*snapshot), *request);
  return End(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* AdminService::GetCluster(grpc::CallbackServerContext* context,
                                                   const v1::GetClusterRequest* request,
                                                   v1::GetClusterResponse* response) {
  if (!services_.look_at_cluster) {
    v1::ClusterNode* const self = response->add_nodes();
    self->mutable_node()->set_id(facts_.incarnation);
    self->mutable_node()->set_name(facts_.node);
    self->set_state(v1::NODE_STATE_ANSWERED);
    self->set_self(true);
    ShowSelf(self->mutable_status());
    return End(context, grpc::Status::OK);
  }
  const uint32_t wait_ms = request->wait_ms() == 0 ? kClusterWaitMs : request->wait_ms();
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const bool looks =
      services_.look_at_cluster(absl::Milliseconds(std::min(wait_ms, kClusterWaitMaxMs)),
                                [reactor, response](v1::GetClusterResponse cluster) {
                                  *response = std::move(cluster);
                                  reactor->Finish(grpc::Status::OK);
                                });
  if (!looks) {
    reactor->Finish(FinishWith(
        {.cause = Cause::kLimit,
         .message = "several others look at the cluster just now; try again in a second"},
        context));
  }
  return reactor;
}

grpc::ServerUnaryReactor* AdminService::Drain(grpc::CallbackServerContext* context,
                                              const v1::DrainRequest* /*request*/,
                                              v1::DrainResponse* /*response*/) {
  services_.drain();
  return End(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* AdminService::SetFailpoint(grpc::CallbackServerContext* context,
                                                     const v1::SetFailpointRequest* request,
                                                     v1::SetFailpointResponse* response) {
  if (!kFailpointsBuiltIn) {
    return End(context,
               FinishWith({.cause = Cause::kUnsupported, .message = "this build has no failpoints"},
                          context));
  }
  const std::optional<FailpointAction> action = FromProto(request->action());
  if (!action.has_value() || request->name().empty()) {
    return End(context, FinishWith({.cause = Cause::kInvalid,
                                    .message = "a failpoint needs a name, and an action that this "
                                               "build knows"},
                                   context));
  }
  const FailpointState state = tutti::SetFailpoint(request->name(), *action, request->from_hit());
  if (*action != FailpointAction::kQuery) {
    LogInfo("failpoint.set name={} action={} hits={} held={}", Quoted(request->name()),
            v1::FailpointAction_Name(request->action()), state.hits, state.held);
  }
  response->set_hits(state.hits);
  response->set_held(state.held);
  return End(context, grpc::Status::OK);
}

}  // namespace tutti
