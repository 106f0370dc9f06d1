// What a group is called, and what it uses of its surroundings.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "base/deadline_queue.h"
#include "daemon/cluster/cluster.h"
#include "daemon/core/agree.h"
#include "daemon/core/complete.h"
#include "daemon/core/execute.h"
#include "daemon/core/limits.h"
#include "daemon/core/process.h"

namespace tutti {

// What groups use of the core; outlives them.
struct GroupServices {
  const Clock* clock = nullptr;
  const Limits* limits = nullptr;
  const ProcessProbe* processes = nullptr;
  DeadlineQueue* deadlines = nullptr;
  Executor* executor = nullptr;
  Completer* completer = nullptr;
  Completer::FindSession find_session;
  // A group has ended: people are to see that at once, and not at the next tick.
  std::function<void()> ended;
};

// The cluster, and what else a group over several nodes calls.
struct GroupPeers {
  Cluster* cluster = nullptr;
  // A group that nobody holds a seat in has done what it owed to other nodes.
  std::function<void(const EpochId& epoch_id)> finished;
};

// What an epoch is called, and how it works.
struct GroupIdentity {
  std::string name_space;
  std::string name;
  uint64_t epoch = 0;
  std::string epoch_id;  // 16 random bytes
  Backend* backend = nullptr;
  absl::Duration work_timeout;
  uint32_t world_size = 0;
  // In the order of their lowest ranks, and which of them this is.
  std::vector<NodeRanks> nodes;
  size_t node = 0;
};

}  // namespace tutti
