#include "client/cpp/rpc.h"

#include <grpc/support/time.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/socket_paths.h"
#include "proto/grpc_library.h"
#include "proto/grpc_status.h"

namespace tutti {
inline namespace client {
namespace {

// gRPC takes deadlines on its own clocks only; as a span it does not depend on the wall clock.
gpr_timespec DeadlineIn(absl::Duration timeout) {
  return gpr_time_from_millis(absl::ToInt64Milliseconds(timeout), GPR_TIMESPAN);
}

}  // namespace

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& socket_path) {
  KeepGrpcInitialized();
  grpc::ChannelArguments arguments;
  // Channels to one target share a connection otherwise, and with it their fate.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // gRPC's defaults are 1 s to 2 minutes: right for the internet, not for a socket file.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  // In spite of its name: how long gRPC waits for a connection to be set up. What is too short for
  // a busy machine fails there for ever; if nobody listens, connecting fails at once anyway.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5000);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // No keepalive: the session socket tells who lives.
  return grpc::CreateCustomChannel(GrpcTarget(socket_path), grpc::InsecureChannelCredentials(),
                                   arguments);
}

Rpc::Rpc(const std::shared_ptr<grpc::Channel>& channel, std::string token)
    : stub_(v1::ClientService::NewStub(channel)), token_(std::move(token)) {}

Result<v1::JoinGroupResponse> Rpc::Join(const v1::JoinGroupRequest& request,
                                        absl::Duration timeout) {
  v1::JoinGroupResponse response;
  std::optional<Failure> failure = Run(timeout, [&](grpc::ClientContext* context) {
    return stub_->JoinGroup(context, request, &response);
  });
  if (failure.has_value()) return *std::move(failure);
  return response;
}

std::optional<Failure> Rpc::Leave(const v1::LeaveGroupRequest& request, absl::Duration timeout) {
  v1::LeaveGroupResponse response;
  return Run(timeout, [&](grpc::ClientContext* context) {
    return stub_->LeaveGroup(context, request, &response);
  });
}

void Rpc::Cancel(const Failure& reason) {
  const MutexLock lock(&mutex_);
  if (!cancelled_.has_value()) cancelled_ = reason;
  for (grpc::ClientContext* const call : calls_) call->TryCancel();
}

template <typename Call>
std::optional<Failure> Rpc::Run(absl::Duration timeout, const Call& call) {
  grpc::ClientContext context;
  context.AddMetadata(kTokenKey, token_);
  context.set_deadline(DeadlineIn(timeout));
  // The session socket is open, so there is a daemon: wait for its other socket.
  context.set_wait_for_ready(true);
  {
    const MutexLock lock(&mutex_);
    if (cancelled_.has_value()) return cancelled_;
    calls_.insert(&context);
  }
  const grpc::Status status = call(&context);
  const MutexLock lock(&mutex_);
  calls_.erase(&context);
  if (status.ok()) return std::nullopt;
  const auto& trailers = context.GetServerTrailingMetadata();
  const bool from_daemon = trailers.find(kFailureKey) != trailers.end();
  // What the daemon said last is better than what followed from its end.
  if (cancelled_.has_value() && !from_daemon) return cancelled_;
  Failure failure = FailureOf(status, context);
  if (!from_daemon) failure.message = absl::StrCat("call to the daemon: ", failure.message);
  return failure;
}

}  // namespace client
}  // namespace tutti
