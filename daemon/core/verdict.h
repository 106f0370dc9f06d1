// How failures are worded and who they name: the one place that makes a group's verdicts.
//
// A verdict is made once, and the same value is told to every rank. Pure functions.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/failure.h"
#include "daemon/core/work.h"

namespace tutti {

// Names one epoch of a group in messages.
struct GroupLabel {
  const std::string& name;
  uint64_t epoch = 0;
};

// "allreduce #12 on "dp" (epoch 3)". Without an operation: ""dp" (epoch 3)".
std::string Where(const GroupLabel& group, const Operation* operation);

// Ranks of one session are gone, in the way of `cause` (kRankDied, kSessionClosed, kRankLeft...).
// `who` describes the session; `operation` is the first one that it ends, or null.
Failure RanksGone(const GroupLabel& group, Cause cause, std::vector<Rank> ranks,
                  const std::string& who, const Operation* operation);

// Admission refused the parts of some ranks. REQUIRES: at least one.
Failure PartsRefused(const GroupLabel& group, const Operation& operation);

// The deadline passed. `doing` says of each missing rank what it is doing.
Failure DeadlinePassed(const GroupLabel& group, const Operation& operation, absl::Duration waited,
                       const std::vector<std::string>& doing);

// The same, but it is not known yet who is missing on other nodes: that is to be appended.
Failure DeadlinePassed(const GroupLabel& group, const Operation& operation, absl::Duration waited);

// The backend failed while it executed `operation`.
Failure BackendFailed(const GroupLabel& group, const Operation& operation,
                      const absl::Status& status);

// Ranks that have, and have not, submitted; `ranks` by slot.
std::vector<Rank> ArrivedRanks(const Operation& operation, const std::vector<Rank>& ranks);
std::vector<Rank> MissingRanks(const Operation& operation, const std::vector<Rank>& ranks);

}  // namespace tutti
