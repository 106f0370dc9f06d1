// One look at the cluster: who is in it, and how each of them is.
//
//   ask the seed who there is ──► ask all of them, some at a time ──► done
//     (half of the time)            (until time is up)
//
// The seed knows all nodes; without it, this daemon knows those that it has links to. Who does not
// answer in time is silent from here, whoever else can reach it. Nobody is waited for beyond that.
//
// No sockets and no threads of its own: NodeCalls (grpc_node_calls.h) has these.
//
// Thread-safe: replies come on any thread. Owned by the calls that are under way.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "daemon/peer/known_nodes.h"
#include "tutti/v1/admin.pb.h"
#include "tutti/v1/peer.pb.h"

namespace tutti {

// What became of a question.
struct NodeReply {
  enum class Kind : uint8_t { kAnswered, kSilent, kTooOld };
  Kind kind = Kind::kSilent;
  v1::GetNodeResponse answer;  // if it has answered
  std::string why;             // if it is silent
};

// Questions to other daemons.
class NodeCalls {
 public:
  virtual ~NodeCalls() = default;

  // Asks `node` for itself, and for others. `done` is called once, at `deadline` or soon after it
  // at the latest, on any thread, and maybe from within.
  virtual void Ask(const NodeInfo& node, bool with_others, MonotonicTime deadline,
                   std::function<void(NodeReply reply)> done) = 0;
};

class ClusterLook : public std::enable_shared_from_this<ClusterLook> {
 public:
  // All of it outlives the look.
  struct Services {
    const Clock* clock = nullptr;
    NodeCalls* calls = nullptr;
    KnownNodes* known = nullptr;
    // How this daemon is; on any thread.
    std::function<void(v1::NodeStatus* status)> own_status;
  };
  struct Options {
    // Half a second, of the one in which people are answered.
    absl::Duration wait = absl::Milliseconds(500);
    // At a time: each is a connection, some 100 KiB here and there while it lasts.
    size_t calls_max = 128;
    size_t nodes_max = 4096;
  };
  // What is not about nodes (the daemon's membership) is the caller's.
  using Done = std::function<void(v1::GetClusterResponse response)>;

  // Calls `done` once; maybe from within.
  static void Start(const Services& services, const Options& options, Done done);

 private:
  struct Row {
    NodeInfo node;
    v1::NodeState state = v1::NODE_STATE_NOT_ASKED;
    MonotonicTime asked;
    // Of one that was lost, or is silent.
    absl::Duration silent_for;
    std::string why;
    v1::NodeStatus status;
  };

  ClusterLook(const Services& services, const Options& options, Done done);

  struct Question {
    size_t row = 0;
    NodeInfo node;
  };

  void Begin();
  void HandleSeed(NodeReply reply);
  std::vector<Row> OwnLost() const;
  void AskOthers(const std::vector<NodeInfo>& linked, std::vector<Row> lost);

  void AskAll();
  // Nothing if nobody is to be asked now; then tells whether all is over.
  std::optional<Question> Next(bool* over);
  void Handle(size_t row, NodeReply reply);
  void Note(Row* row, NodeReply reply) const;

  v1::GetClusterResponse Result();
  v1::ClusterNode Show(const Row& row) const;

  const Services services_;
  const Options options_;
  const KnownNodes::View view_;
  const MonotonicTime began_;
  const Done done_;

  Mutex mutex_;
  std::string seed_silent_ ABSL_GUARDED_BY(mutex_);
  // This daemon, the seed if it is another, then the others.
  std::vector<Row> rows_ ABSL_GUARDED_BY(mutex_);
  std::set<NodeId> listed_ ABSL_GUARDED_BY(mutex_);
  size_t left_out_ ABSL_GUARDED_BY(mutex_) = 0;
  // Those before it have been asked, or need not be.
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t waiting_for_ ABSL_GUARDED_BY(mutex_) = 0;
  // Somebody asks, or all is over: nobody else has to.
  bool asking_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace tutti
