// Many operations of several groups and pairs of ranks at once, from a thread for each, every
// result of them checked.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "client/cpp/tutti.h"

namespace tutti {

struct StormResult {
  // Operations that ended well and right.
  uint64_t works = 0;
  // The first thing that was wrong; empty if nothing was.
  std::string problem;
};

// On each group two threads, each with several operations in flight: one allreduces, one sends to
// the next rank and receives from the one before, `rounds` times. Blocks until all have ended. All
// ranks of the groups must do the same.
StormResult RunStorm(Client* client, const std::vector<Group>& groups, uint64_t rounds);

}  // namespace tutti
