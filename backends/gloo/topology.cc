#include "backends/gloo/topology.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tutti {

absl::StatusOr<Topology> Topology::Make(const GroupSpec& spec) {
  Topology topology{.node = spec.node, .ranks = spec.nodes};
  if (topology.ranks.empty()) topology.ranks = {spec.local_ranks};
  if (topology.nodes() > kGlooNodesMax) {
    return absl::InvalidArgumentError(absl::StrCat("the gloo backend serves groups of at most ",
                                                   kGlooNodesMax, " nodes, and this one has ",
                                                   topology.nodes()));
  }
  const absl::Status wrong =
      absl::InvalidArgumentError("the nodes' ranks are not those of the group, each once");
  if (spec.world_size == 0 || topology.node >= topology.nodes()) return wrong;
  topology.node_of.assign(spec.world_size, topology.nodes());
  size_t found = 0;
  for (size_t node = 0; node < topology.nodes(); ++node) {
    const std::vector<Rank>& ranks = topology.ranks[node];
    if (!std::is_sorted(ranks.begin(), ranks.end())) return wrong;
    for (const Rank rank : ranks) {
      if (rank >= spec.world_size || topology.node_of[rank] != topology.nodes()) return wrong;
      topology.node_of[rank] = node;
      ++found;
    }
  }
  if (found != spec.world_size || topology.local() != spec.local_ranks) return wrong;
  return topology;
}

size_t Topology::ranks_per_node_max() const {
  size_t most = 0;
  for (const std::vector<Rank>& on_node : ranks) most = std::max(most, on_node.size());
  return most;
}

NodeSet Topology::everybody() const {
  NodeSet all;
  for (size_t i = 0; i < nodes(); ++i) all.set(i);
  return all;
}

}  // namespace tutti
