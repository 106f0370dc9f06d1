// Whom this daemon has links to, whom it has lost lately, and where it stands with the seed: what
// people are shown of the cluster.
//
// Thread-safe: told on the control loop, asked on gRPC's threads, which never wait for the loop.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "daemon/cluster/messages.h"
#include "daemon/peer/frames.h"

namespace tutti {

class KnownNodes {
 public:
  // Of those that were lost, which are shown: who looks for a node that died needs no more, and who
  // has replaced it is tired of it.
  static constexpr size_t kLostMax = 16;
  static constexpr absl::Duration kLostFor = absl::Minutes(10);

  struct LostOne {
    NodeInfo node;
    MonotonicTime when;
    std::string why;
  };
  struct View {
    NodeInfo self;
    // The last that was found; `connected`: there is a link to it, or it is this daemon.
    std::optional<NodeInfo> seed;
    bool connected = false;
    // Since when it is connected, or is not.
    MonotonicTime since;
    std::string why_not;
    std::vector<NodeInfo> linked;
    std::vector<LostOne> lost;  // the latest first

    bool is_seed() const { return connected && seed->id == self.id; }
  };

  // `clock` must outlive this.
  KnownNodes(const Clock* clock, NodeInfo self);

  // --- What is heard of. All but AskedInVain and Answered on the control loop, in order. ---

  // Its address may be found out late.
  void SelfIs(const NodeInfo& self);
  void SeedIs(const NodeInfo& seed);
  void LooksForSeed(const std::string& why);
  void LinkIsUp(const NodeInfo& node);
  // Ignored if it was not up. Who ends in good order is not lost.
  void LinkIsDown(const NodeInfo& node, const LinkEnd& why);

  // Since when it has been asked in vain: `when`, or an earlier time without an answer since.
  MonotonicTime AskedInVain(const NodeId& node, MonotonicTime when);
  void Answered(const NodeId& node);

  View view() const;

 private:
  const Clock* const clock_;
  mutable Mutex mutex_;
  NodeInfo self_ ABSL_GUARDED_BY(mutex_);
  std::optional<NodeInfo> seed_ ABSL_GUARDED_BY(mutex_);
  bool connected_ ABSL_GUARDED_BY(mutex_) = false;
  MonotonicTime since_ ABSL_GUARDED_BY(mutex_);
  std::string why_not_ ABSL_GUARDED_BY(mutex_);
  std::map<NodeId, NodeInfo> linked_ ABSL_GUARDED_BY(mutex_);
  std::vector<LostOne> lost_ ABSL_GUARDED_BY(mutex_);  // the latest first
  std::map<NodeId, MonotonicTime> silent_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tutti
