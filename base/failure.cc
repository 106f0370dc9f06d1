#include "base/failure.h"

#include "absl/strings/str_cat.h"

namespace tutti {

const char* NameOf(Cause cause) {
  switch (cause) {
    case Cause::kUnspecified:
      return "UNSPECIFIED";
    case Cause::kRankDied:
      return "RANK_DIED";
    case Cause::kSessionClosed:
      return "SESSION_CLOSED";
    case Cause::kRankLeft:
      return "RANK_LEFT";
    case Cause::kMismatch:
      return "MISMATCH";
    case Cause::kDeadline:
      return "DEADLINE";
    case Cause::kInvalid:
      return "INVALID";
    case Cause::kLimit:
      return "LIMIT";
    case Cause::kDraining:
      return "DRAINING";
    case Cause::kNodeLost:
      return "NODE_LOST";
    case Cause::kBackend:
      return "BACKEND";
    case Cause::kNotFound:
      return "NOT_FOUND";
    case Cause::kSeatTaken:
      return "SEAT_TAKEN";
    case Cause::kUnsupported:
      return "UNSUPPORTED";
    case Cause::kProtocol:
      return "PROTOCOL";
    case Cause::kWithdrawn:
      return "WITHDRAWN";
    case Cause::kInternal:
      return "INTERNAL";
  }
  return "?";
}

absl::StatusCode CodeOf(Cause cause) {
  switch (cause) {
    case Cause::kRankDied:
    case Cause::kSessionClosed:
    case Cause::kRankLeft:
      return absl::StatusCode::kAborted;
    case Cause::kMismatch:
      return absl::StatusCode::kFailedPrecondition;
    case Cause::kDeadline:
      return absl::StatusCode::kDeadlineExceeded;
    case Cause::kInvalid:
    case Cause::kProtocol:
      return absl::StatusCode::kInvalidArgument;
    case Cause::kLimit:
      return absl::StatusCode::kResourceExhausted;
    case Cause::kDraining:
    case Cause::kNodeLost:
      return absl::StatusCode::kUnavailable;
    case Cause::kNotFound:
      return absl::StatusCode::kNotFound;
    case Cause::kSeatTaken:
      return absl::StatusCode::kAlreadyExists;
    case Cause::kUnsupported:
      return absl::StatusCode::kUnimplemented;
    case Cause::kWithdrawn:
      return absl::StatusCode::kCancelled;
    case Cause::kUnspecified:
    case Cause::kBackend:
    case Cause::kInternal:
      return absl::StatusCode::kInternal;
  }
  return absl::StatusCode::kInternal;
}

std::string DescribeRanks(const std::vector<Rank>& ranks) {
  if (ranks.empty()) return "no rank";
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t first = 0; first < ranks.size();) {
    size_t last = first;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    if (first > 0) absl::StrAppend(&text, ", ");
    absl::StrAppend(&text, ranks[first]);
    if (last > first) absl::StrAppend(&text, last == first + 1 ? ", " : "-", ranks[last]);
    first = last + 1;
  }
  return text;
}

}  // namespace tutti
