// Why a work, a join or a call ended badly: one value for programs and people.
//
// Plain data; what goes over the wire is tutti.v1.Failure (proto/convert.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/types.h"

namespace tutti {

// A closed set: programs may switch on it. Documented in tutti/v1/types.proto and docs/errors.md.
enum class Cause : uint8_t {
  kUnspecified = 0,
  kRankDied = 1,
  kSessionClosed = 2,
  kRankLeft = 3,
  kMismatch = 4,
  kDeadline = 5,
  kInvalid = 6,
  kLimit = 7,
  kDraining = 8,
  kNodeLost = 9,
  kBackend = 10,
  kNotFound = 11,
  kSeatTaken = 12,
  kUnsupported = 13,
  kProtocol = 14,
  kWithdrawn = 15,
  kInternal = 16,
};

// "RANK_DIED" and so on, as in the proto but without the prefix.
const char* NameOf(Cause cause);

// The status code that goes with a cause; the one table of this mapping.
absl::StatusCode CodeOf(Cause cause);

struct Failure {
  Cause cause = Cause::kUnspecified;
  // One line: group, operation, ranks, what to do.
  std::string message;
  std::string group;
  uint64_t epoch = 0;
  // Ranks in increasing order.
  std::vector<Rank> culprits;
  std::vector<Rank> missing;
  // The collective of the group (1, 2, 3...) that it ended; 0 if none.
  uint64_t sequence = 0;

  absl::StatusCode code() const { return CodeOf(cause); }
  absl::Status ToStatus() const { return absl::Status(code(), message); }

  friend bool operator==(const Failure&, const Failure&) = default;
};

// "rank 3", "ranks 0-6, 9": how people are told.
std::string DescribeRanks(const std::vector<Rank>& ranks);

}  // namespace tutti
