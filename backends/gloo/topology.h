// Which rank of a group lives on which node.
//
// A value; thread-safe once it is made.
#pragma once

#include <bitset>
#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "backends/backend.h"

namespace tutti {

// Gloo connects every node with every other, each pair by a socket of its own, with a second one
// that listens until then. Connecting takes time that grows faster than the number of pairs: 32
// nodes in one process took 89 ms (998 descriptors), 64 had not finished after 100 s.
inline constexpr size_t kGlooNodesMax = 32;

using NodeSet = std::bitset<kGlooNodesMax>;

struct Topology {
  // Fails with kInvalidArgument if the nodes' ranks are not those of the group, each once, or if
  // there are too many nodes.
  static absl::StatusOr<Topology> Make(const GroupSpec& spec);

  size_t nodes() const { return ranks.size(); }
  size_t world_size() const { return node_of.size(); }
  const std::vector<Rank>& local() const { return ranks[node]; }
  // Of the node that has most.
  size_t ranks_per_node_max() const;
  // All nodes.
  NodeSet everybody() const;

  size_t node = 0;                       // this one
  std::vector<std::vector<Rank>> ranks;  // by node, in increasing order
  std::vector<size_t> node_of;           // by rank
};

}  // namespace tutti
