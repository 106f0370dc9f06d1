#include "daemon/core/verdict.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/failpoint.h"
#include "base/log.h"

namespace tutti {
namespace {

Failure At(const GroupLabel& group, Cause cause, const Operation* operation) {
  Failure failure;
  failure.cause = cause;
  failure.group = group.name;
  failure.epoch = group.epoch;
  failure.sequence = operation == nullptr ? 0 : operation->sequence;
  return failure;
}

const char* HowGone(Cause cause) {
  switch (cause) {
    case Cause::kRankDied:
      return "died";
    case Cause::kRankLeft:
      return "left the group";
    case Cause::kDraining:
      return "lost its session: the daemon is shutting down";
    case Cause::kProtocol:
      return "broke the protocol, and its session was closed";
    default:
      return "closed its session";
  }
}

std::vector<Rank> RanksBySlot(const Operation& operation, const std::vector<Rank>& ranks,
                              bool arrived) {
  std::vector<Rank> chosen;
  for (size_t slot = 0; slot < operation.works.size(); ++slot) {
    if ((operation.works[slot] != nullptr) == arrived) chosen.push_back(ranks[slot]);
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace

std::string Where(const GroupLabel& group, const Operation* operation) {
  const std::string place = absl::StrCat(Quoted(group.name), " (epoch ", group.epoch, ")");
  if (operation == nullptr) return absl::StrCat("group ", place);
  return absl::StrCat(Describe(*operation), " on ", place);
}

Failure RanksGone(const GroupLabel& group, Cause cause, std::vector<Rank> ranks,
                  const std::string& who, const Operation* operation) {
  TUTTI_CHECK(!ranks.empty());
  // The planted defect: the wrong rank is named.
  if (Mutated("verdict.blame_next")) ++ranks.front();
  Failure failure = At(group, cause, operation);
  failure.message = absl::StrCat(Where(group, operation), ": ", DescribeRanks(ranks), " (", who,
                                 ") ", HowGone(cause), "; join the group again to go on");
  failure.culprits = std::move(ranks);
  return failure;
}

Failure PartsRefused(const GroupLabel& group, const Operation& operation) {
  std::vector<std::string> reasons;
  std::vector<Rank> refused;
  Cause cause = Cause::kUnspecified;
  for (const auto& work : operation.works) {
    if (work == nullptr || !work->refused.has_value()) continue;
    if (refused.empty()) cause = work->refused->cause;
    const std::string& reason = work->refused->message;
    if (std::find(reasons.begin(), reasons.end(), reason) == reasons.end()) {
      reasons.push_back(reason);
    }
    refused.push_back(work->rank);
  }
  TUTTI_CHECK(!refused.empty());
  std::sort(refused.begin(), refused.end());
  Failure failure = At(group, cause, &operation);
  failure.message = absl::StrCat(Where(group, &operation), ": ", DescribeRanks(refused), ": ",
                                 absl::StrJoin(reasons, "; "));
  failure.culprits = std::move(refused);
  return failure;
}

Failure DeadlinePassed(const GroupLabel& group, const Operation& operation, absl::Duration waited,
                       const std::vector<std::string>& doing) {
  Failure failure = DeadlinePassed(group, operation, waited);
  absl::StrAppend(&failure.message, "; not arrived: ", absl::StrJoin(doing, "; "));
  return failure;
}

Failure DeadlinePassed(const GroupLabel& group, const Operation& operation, absl::Duration waited) {
  Failure failure = At(group, Cause::kDeadline, &operation);
  failure.message = absl::StrCat(Where(group, &operation), ": deadline passed after ",
                                 absl::FormatDuration(absl::Trunc(waited, absl::Milliseconds(1))));
  return failure;
}

Failure BackendFailed(const GroupLabel& group, const Operation& operation,
                      const absl::Status& status) {
  Failure failure = At(group, Cause::kBackend, &operation);
  failure.message = absl::StrCat(Where(group, &operation), ": ", status.message());
  return failure;
}

std::vector<Rank> ArrivedRanks(const Operation& operation, const std::vector<Rank>& ranks) {
  return RanksBySlot(operation, ranks, true);
}

std::vector<Rank> MissingRanks(const Operation& operation, const std::vector<Rank>& ranks) {
  return RanksBySlot(operation, ranks, false);
}

}  // namespace tutti
