// What a collective over several nodes comes down to: routes, along which elements flow from the
// nodes that have them to one node, which combines them, and from there to those that want them.
//
//   kind            routes                      sources    owner    readers
//   allreduce       a part of the tensors for  all        each     all others
//   reduce          each node (of two nodes:   all        each     the root's node
//   broadcast       all for one)               the root's each     the others but the root's
//   allgather       the tensors of each node   it         it       all others
//   gather          the tensors of each node   it         root's   none
//   scatter         the elements of the list   the root's it       none
//   reduce_scatter  that are for each node     all        it       none
//   all_to_all      for each pair of nodes     one        the other
//
// So a large allreduce is a reduce-scatter and an all-gather, and a large broadcast a scatter and
// an all-gather, each by direct exchange: as few bytes through each node's link as there can be, in
// two steps. (Thakur, Rabenseifner, Gropp: "Optimization of Collective Communication Operations in
// MPICH", IJHPCA 19(1), 2005, sections 4.3 and 4.4; broadcast after van de Geijn.) An element is
// combined in the order of nodes, on each node in the order of ranks, whatever its route: so all
// ranks get the same bits, run after run.
//
// Pure; a Flow is a value that refers to the collective's buffers, but not to the collective.
#pragma once

#include <cstddef>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "backends/gloo/topology.h"
#include "backends/local/kernels.h"

namespace tutti {

// A run of elements that lie one after the other in every buffer. Positions without a piece hold
// nothing: they are there so that two routes can keep step.
struct Piece {
  size_t begin = 0;  // position in the route
  size_t count = 0;
  // On this node: what is combined, if it is a source, by rank; where results go.
  absl::InlinedVector<const std::byte*, 2> inputs;
  absl::InlinedVector<std::byte*, 2> outputs;
};

// The same on all nodes, but for the pointers.
struct Route {
  NodeSet sources;
  size_t owner = 0;
  NodeSet readers;
  size_t size = 0;  // positions
  std::vector<Piece> pieces;
};

class Flow {
 public:
  // Of any kind but all_to_all, transfer and barrier. Up to `whole_bytes` in all, a reduction or a
  // broadcast is one route.
  //
  // Fails with kInternal if the buffers do not fit the operation, naming the rank (the core has
  // checked them), or with kUnimplemented.
  static absl::StatusOr<Flow> Make(const Collective& collective, const Topology& topology,
                                   size_t whole_bytes, const KernelTable& kernels);

  // Of an all_to_all: without what stays on this node. `splits` are agreed, and the buffers fit.
  static Flow MakeAllToAll(const Collective& collective, const Topology& topology,
                           const Splits& splits, const KernelTable& kernels);

  size_t element_bytes() const { return element_bytes_; }
  const std::vector<Route>& routes() const { return lanes_; }
  // Bytes that `node` is a source of.
  size_t SourceBytes(size_t node) const;

  // Whether what this node has may be sent from where it lies, although results are being received.
  // Not if a result may arrive where something is that has not left yet.
  bool sends_in_place() const { return sends_in_place_; }

  // A range of one route. Its elements travel without the positions that hold nothing.
  struct Range {
    const Route* route = nullptr;
    size_t first = 0;
    size_t count = 0;
  };
  size_t BytesOf(const Range& range) const;

  // Where the range's elements lie, if they are one input's and need no work. Else null.
  const std::byte* InputOf(const Range& range) const;
  // Where they go, if that is one place. Else null.
  std::byte* OutputOf(const Range& range) const;

  // Combines this node's inputs into `to`. REQUIRES: it is a source.
  void CombineInputs(const Range& range, std::byte* to) const;
  // Combines what nodes had (`parts`, by node, at least one), each as CombineInputs leaves it, into
  // this node's outputs and, unless it is null, into `also`.
  void CombineParts(const Range& range, const std::vector<const std::byte*>& parts,
                    std::byte* also) const;
  // Copies a result to this node's outputs, but not onto itself.
  void CopyOut(const Range& range, const std::byte* result) const;

  // Whether a single part is the result already.
  bool copies() const { return copies_; }

 private:
  friend class FlowBuilder;

  // Calls `body` with each piece's part of the range: (piece, its first element, count, bytes of
  // the range before it).
  template <typename Body>
  void ForEach(const Range& range, const Body& body) const;

  size_t element_bytes_ = 1;
  bool copies_ = true;
  bool normalizes_ = false;  // a single input is not yet what a node has to say
  bool sends_in_place_ = true;
  uint32_t divisor_ = 1;  // of kAvg
  ReduceKernel combine_inputs_ = nullptr;
  ReduceKernel combine_parts_ = nullptr;
  ReduceKernel copy_ = nullptr;  // of bytes
  std::vector<Route> lanes_;
};

}  // namespace tutti
