// Questions to other daemons over gRPC: each a call on a connection of its own, which lasts as long
// as the call. Nothing of links is shared: an answer does not wait behind what they carry.
//
// Thread-safe, but for destruction.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <functional>
#include <map>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "daemon/peer/cluster_look.h"

namespace tutti {

class GrpcNodeCalls final : public NodeCalls {
 public:
  // `clock` must outlive this.
  GrpcNodeCalls(const Clock* clock, std::shared_ptr<grpc::ChannelCredentials> credentials);
  // REQUIRES: Wait has returned, and Ask is not called any more.
  ~GrpcNodeCalls() override;

  void Ask(const NodeInfo& node, bool with_others, MonotonicTime deadline,
           std::function<void(NodeReply reply)> done) override;

  // Ends what is under way, and refuses what comes.
  void Cancel();
  // Returns when nothing is under way, and no channel is left.
  void Wait();

 private:
  struct Call;

  void HandleDone(Call* call, const grpc::Status& status);

  const Clock* const clock_;
  const std::shared_ptr<grpc::ChannelCredentials> credentials_;

  Mutex mutex_;
  CondVar one_gone_;
  std::map<Call*, std::shared_ptr<Call>> calls_ ABSL_GUARDED_BY(mutex_);
  // These, and those whose `done` runs.
  size_t under_way_ ABSL_GUARDED_BY(mutex_) = 0;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace tutti
