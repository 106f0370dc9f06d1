#include "daemon/peer/grpc_node_calls.h"

#include <grpc/support/time.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/peer/tcp.h"
#include "daemon/transport/grpc_order.h"
#include "tutti/v1/peer.grpc.pb.h"

namespace tutti {
namespace {

std::shared_ptr<grpc::Channel> Open(const std::string& address,
                                    const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  return grpc::CreateCustomChannel(GrpcAddress(address), credentials, arguments);
}

}  // namespace

struct GrpcNodeCalls::Call final : grpc::ClientUnaryReactor {
  void OnReadInitialMetadataDone(bool /*ok*/) override { const InReaction reaction(this); }
  void OnDone(const grpc::Status& status) override {
    const InReaction reaction(this);
    calls->HandleDone(this, status);
  }

  GrpcNodeCalls* calls = nullptr;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::PeerService::Stub> stub;
  grpc::ClientContext context;
  v1::GetNodeRequest request;
  v1::GetNodeResponse answer;
  absl::Duration patience;
  std::function<void(NodeReply reply)> done;
};

GrpcNodeCalls::GrpcNodeCalls(const Clock* clock,
                             std::shared_ptr<grpc::ChannelCredentials> credentials)
    : clock_(clock), credentials_(std::move(credentials)) {}

GrpcNodeCalls::~GrpcNodeCalls() {
  // Orders what calls did last before their end, for ThreadSanitizer.
  MutexLock lock(&mutex_);
}

void GrpcNodeCalls::Ask(const NodeInfo& node, bool with_others, MonotonicTime deadline,
                        std::function<void(NodeReply reply)> done) {
  if (node.address.empty()) return done({.why = "its address is not known"});
  const auto owned = std::make_shared<Call>();
  Call* const call = owned.get();
  bool refused = false;
  {
    MutexLock lock(&mutex_);
    refused = cancelled_;
    if (!refused) {
      calls_[call] = owned;
      ++under_way_;
    }
  }
  if (refused) return done({.why = "this daemon ends"});
  call->calls = this;
  call->channel = Open(node.address, credentials_);
  call->stub = v1::PeerService::NewStub(call->channel);
  call->request.set_with_others(with_others);
  call->patience = std::max(deadline - clock_->Now(), absl::ZeroDuration());
  call->context.set_deadline(
      gpr_time_from_millis(absl::ToInt64Milliseconds(call->patience), GPR_TIMESPAN));
  call->done = std::move(done);
  call->stub->async()->GetNode(&call->context, &call->request, &call->answer, call);
  BeforeReactions(call);
  call->StartCall();
}

void GrpcNodeCalls::HandleDone(Call* call, const grpc::Status& status) {
  NodeReply reply;
  if (status.ok()) {
    reply.kind = NodeReply::Kind::kAnswered;
    reply.answer = std::move(call->answer);
  } else if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
    reply.kind = NodeReply::Kind::kTooOld;
  } else if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    reply.why =
        absl::StrCat("no answer within ",
                     absl::FormatDuration(absl::Trunc(call->patience, absl::Milliseconds(1))));
  } else {
    reply.why = status.error_message();
  }
  const std::function<void(NodeReply)> done = std::move(call->done);
  std::shared_ptr<Call> owned;
  {
    MutexLock lock(&mutex_);
    owned = std::move(calls_.extract(call).mapped());
  }
  owned.reset();
  done(std::move(reply));
  MutexLock lock(&mutex_);
  --under_way_;
  one_gone_.SignalAll();
}

void GrpcNodeCalls::Cancel() {
  std::map<Call*, std::shared_ptr<Call>> calls;
  {
    MutexLock lock(&mutex_);
    cancelled_ = true;
    calls = calls_;
  }
  // Not while the lock is held: what a call does when it is done may run within.
  for (const auto& [call, owned] : calls) call->context.TryCancel();
}

void GrpcNodeCalls::Wait() {
  MutexLock lock(&mutex_);
  while (under_way_ > 0) one_gone_.Wait(&mutex_);
}

}  // namespace tutti
