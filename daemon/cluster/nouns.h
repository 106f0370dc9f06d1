// The nouns of the cluster: nodes, groups, seats, places of operations, and how an epoch ends.
// Plain values.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "base/failure.h"
#include "base/types.h"

namespace tutti {

// 16 random bytes: of a daemon, drawn when it starts; of an epoch, drawn by the seed.
using NodeId = std::string;
using EpochId = std::string;

// (namespace, name).
using GroupKey = std::pair<std::string, std::string>;

// One daemon, from its start to its end.
struct NodeInfo {
  NodeId id;
  std::string name;     // for people: the host's name
  std::string address;  // "host:port" at which other daemons reach it; empty: nobody can

  friend bool operator==(const NodeInfo&, const NodeInfo&) = default;
};

// What all joiners of a group have to agree on.
struct GroupTerms {
  uint32_t world_size = 0;
  std::string backend;  // as asked for: "auto", "local", ...
  absl::Duration work_timeout;

  friend bool operator==(const GroupTerms&, const GroupTerms&) = default;
};

// A place in a group, and which join of its node has it.
struct Seat {
  Rank rank = 0;
  uint64_t join = 0;  // which join of its node

  friend bool operator==(const Seat&, const Seat&) = default;
};

// One node of a group, with its seats in the order of ranks.
struct RosterNode {
  NodeInfo node;
  std::vector<Seat> seats;

  friend bool operator==(const RosterNode&, const RosterNode&) = default;
};

// The last work of a pair's sequence that its leaver has submitted.
struct PairEnd {
  Rank source = 0;
  Rank destination = 0;
  uint64_t last = 0;

  friend bool operator==(const PairEnd&, const PairEnd&) = default;
};

// Which operation is meant: of the collectives, or of a pair.
struct Place {
  uint64_t sequence = 0;
  bool pairwise = false;
  Rank source = 0;
  Rank destination = 0;

  friend bool operator==(const Place&, const Place&) = default;
};

// Why an epoch ends, and what of it still goes on.
struct Ending {
  Failure failure;
  // A rank has left in good order: what it had submitted completes. Else nothing does.
  bool closed = false;
  // If closed: who left, the last collective that it has submitted, and its pairs.
  Rank leaver = 0;
  uint64_t last = 0;
  std::vector<PairEnd> pairs;
  // Collectives up to this one are known to be complete on all nodes. By the coordinator.
  uint64_t completed_through = 0;

  friend bool operator==(const Ending&, const Ending&) = default;
};

}  // namespace tutti
