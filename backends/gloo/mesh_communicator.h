// A group whose ranks are on several nodes: agrees on each collective with the other nodes,
// combines what its own ranks have, and exchanges it once per node.
//
// Thread-safe: one collective at a time, others wait for it; transfers run beside it, and are
// numbered in the order in which Run is called for each pair of nodes and direction. Owned by
// whoever connected it; must not be destroyed during Run. Other nodes' works that still run when it
// is destroyed may fail.
//
// Holds scratch memory of some MiB, whatever the size of the operations, from the first large
// collective on.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "backends/backend.h"
#include "backends/gloo/all_gather.h"
#include "backends/gloo/flow.h"
#include "backends/gloo/mesh.h"
#include "backends/gloo/pipeline.h"
#include "backends/gloo/topology.h"
#include "backends/gloo/transfers.h"
#include "backends/local/kernels.h"
#include "base/mutex.h"

namespace tutti {

// Sizes that all nodes of a group must have alike.
struct MeshTuning {
  // What all nodes together may carry in the frames of their agreement.
  size_t small_bytes = size_t{64} << 10;
  // What the routes of a large collective move in one step, together.
  size_t step_bytes = size_t{2} << 20;
  // How a transfer is cut; a few of these are under way at a time.
  size_t transfer_bytes = size_t{512} << 10;
};

class MeshCommunicator final : public Communicator {
 public:
  // REQUIRES: `mesh` and `topology` are of the same nodes. `kernels` must outlive this.
  MeshCommunicator(std::unique_ptr<Mesh> mesh, Topology topology, const KernelTable& kernels,
                   const MeshTuning& tuning);

  // Fails with kAborted, kUnavailable (a node is lost), kUnimplemented, kInternal (buffers that do
  // not fit the operation: the core has checked them; or another node that breaks the protocol).
  // Whatever the failure is, the other nodes are told by the end of their connections.
  absl::Status Run(const Collective& collective) override;

  // Does not block.
  void Abort() override;

 private:
  absl::Status Execute(const Collective& collective);
  absl::Status CheckParticipants(const Collective& collective) const;

  absl::Status RunCollective(const Collective& collective)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(collective_mutex_);
  absl::Status RunFlow(const Collective& collective, uint64_t tag)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(collective_mutex_);
  absl::Status RunAllToAll(const Collective& collective, uint64_t tag)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(collective_mutex_);
  // Tells and is told; `agreed` says what Agreement::Decide has. False without participants.
  absl::Status Agree(const Collective& collective, std::string_view payload,
                     std::vector<Frame>* frames, bool* agreed)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(collective_mutex_);
  absl::Status CombineFrames(const Flow& flow, const std::vector<Frame>& frames) const;

  // What one node may carry in its frame.
  size_t small_bytes() const { return tuning_.small_bytes / topology_.nodes(); }
  uint64_t NextTag() ABSL_EXCLUSIVE_LOCKS_REQUIRED(collective_mutex_);

  const std::unique_ptr<Mesh> mesh_;
  const Topology topology_;
  const KernelTable& kernels_;
  const MeshTuning tuning_;
  std::atomic<bool> broken_{false};

  Mutex collective_mutex_;
  uint64_t collectives_posted_ ABSL_GUARDED_BY(collective_mutex_) = 0;
  AllGather agreement_ ABSL_GUARDED_BY(collective_mutex_);
  Pipeline pipeline_ ABSL_GUARDED_BY(collective_mutex_);
  Transfers transfers_;
};

}  // namespace tutti
