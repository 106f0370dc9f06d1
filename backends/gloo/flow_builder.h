// Makes the Flow of one collective: checks this node's buffers, and says which elements go where.
//
// For Flow::Make. Used once, on one thread; `collective` and `topology` must outlive it.
#pragma once

#include <cstddef>

#include "absl/status/status.h"
#include "backends/backend.h"
#include "backends/gloo/flow.h"

namespace tutti {

class FlowBuilder {
 public:
  FlowBuilder(const Collective& collective, const Topology& topology, const KernelTable& kernels);

  absl::Status Build(size_t whole_bytes);
  void BuildAllToAll(const Splits& splits);

  // REQUIRES: building has succeeded.
  Flow Finish() && { return std::move(flow_); }

 private:
  void ChooseKernels(const KernelTable& kernels);

  // One for each kind, or kinds of one shape.
  absl::Status AddTensors(size_t whole_bytes);
  void AddTensorRoute(const Buffers& tensors, size_t owner, size_t begin, size_t end);
  absl::Status AddGathers();
  absl::Status AddScatters();
  void AddPair(size_t from, size_t to, const Splits& splits);

  // How long each of the K tensors is: an empty one for each if this node has none of them.
  absl::Status CheckTensors(const Buffers** tensors) const;
  // What each participant must have, in the order of `backend.h`'s table.
  absl::Status CheckLists(size_t inputs, size_t root_inputs, size_t outputs,
                          size_t root_outputs) const;
  absl::Status BadBuffers(Rank rank) const;
  const Participant* Local(Rank rank) const;
  bool IsRoot(const Participant& participant) const;
  size_t root_node() const { return topology_.node_of[collective_.root]; }
  // Positions of one buffer.
  size_t BufferPositions() const;

  const Collective& collective_;
  const Topology& topology_;
  Flow flow_;
};

}  // namespace tutti
