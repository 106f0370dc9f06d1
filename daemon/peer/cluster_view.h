// What people are shown of the cluster, and what this daemon tells others that ask for them: whom
// it knows (known_nodes.h), and looks at all nodes (cluster_look.h).
//
// Thread-safe; nothing here waits for the control loop. Owned by the network, which tells it whom
// there is.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "daemon/peer/cluster_look.h"
#include "daemon/peer/grpc_node_calls.h"
#include "daemon/peer/known_nodes.h"

namespace tutti {

class ClusterView {
 public:
  struct Options {
    const Clock* clock = nullptr;
    NodeInfo self;
    // The setting of this name.
    std::string join;
    std::shared_ptr<grpc::ChannelCredentials> channel_credentials;
    // Looks at a time: people, and programs that watch. Each makes up to 128 calls at a time.
    size_t looks_max = 4;
  };

  explicit ClusterView(Options options);

  KnownNodes& known() { return known_; }

  // How this daemon is; on any thread. REQUIRES: called before other daemons are served, at most
  // once. Without it they are told that this daemon can't say.
  void SetOwnStatus(std::function<void(v1::NodeStatus* status)> own_status) {
    own_status_ = std::move(own_status);
  }

  // What an operator asks.
  v1::Membership ShowMembership() const;
  // Calls `done` once, after `wait` at the latest, maybe from within. False, and it is not called:
  // too many look already.
  bool Look(absl::Duration wait, ClusterLook::Done done);

  // What another daemon asks.
  grpc::Status Answer(const v1::GetNodeRequest& request, v1::GetNodeResponse* answer) const;

  // Ends looks that are under way, with what they have found; others find nobody.
  void Cancel() { calls_.Cancel(); }
  // Cancels, and returns when no call is left.
  void Shutdown();

 private:
  const Options options_;
  KnownNodes known_;
  GrpcNodeCalls calls_;
  std::function<void(v1::NodeStatus* status)> own_status_;

  Mutex mutex_;
  size_t looks_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tutti
