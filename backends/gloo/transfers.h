// What one rank sends to another, on this node or between nodes.
//
// Thread-safe: transfers run beside each other and beside collectives. Those from one node to
// another are numbered in the order in which Run is called, which must be the same on both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "backends/backend.h"
#include "backends/gloo/mesh.h"
#include "backends/gloo/topology.h"
#include "backends/local/kernels.h"
#include "base/mutex.h"

namespace tutti {

class Transfers {
 public:
  // All must outlive it. `message_bytes`: how a transfer is cut, on all nodes alike, so that what
  // else goes between the two nodes does not wait for all of it.
  Transfers(Mesh* mesh, const Topology* topology, const KernelTable* kernels, size_t message_bytes);

  // `collective` is of kind kSend. Between nodes there is no copy: from the one's memory to the
  // socket, and from there to the other's. Fails with kInternal if the buffers do not fit, else as
  // Mesh::Message::Wait does.
  absl::Status Run(const Collective& collective);

 private:
  // Moves `bytes` to or from another node.
  absl::Status Exchange(const Buffer& bytes, size_t node, bool sends);

  Mesh* const mesh_;
  const Topology& topology_;
  const KernelTable& kernels_;
  const size_t message_bytes_;

  Mutex mutex_;
  // How many have begun, by the other node.
  std::vector<uint64_t> sent_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> received_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tutti
