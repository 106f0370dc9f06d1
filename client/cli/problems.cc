#include "client/cli/problems.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "base/types.h"
#include "client/cli/text.h"
#include "proto/convert.h"

namespace tutti {
namespace {

// "RANK_ACTIVITY_NEVER_JOINED" -> "never joined". A number that this build does not know: "?".
std::string Words(const std::string& name, const char* prefix) {
  if (name.empty()) return "?";
  return absl::StrReplaceAll(absl::AsciiStrToLower(absl::StripPrefix(name, prefix)), {{"_", " "}});
}

// What the ranks that an operation waits for are doing: "rank 2 (stopped)".
std::string DescribeMissing(const v1::OpStatus& op, const v1::GetGroupResponse& group) {
  std::vector<std::string> ranks;
  for (const uint32_t missing : op.missing()) {
    if (ranks.size() == 4) {
      ranks.push_back(absl::StrCat("and ", op.missing_size() - 4, " more"));
      break;
    }
    const auto rank = std::find_if(group.ranks().begin(), group.ranks().end(),
                                   [&](const auto& status) { return status.rank() == missing; });
    ranks.push_back(rank == group.ranks().end()
                        ? absl::StrCat("rank ", missing)
                        : absl::StrCat("rank ", missing, " (", Describe(rank->activity()), ")"));
  }
  return ranks.empty() ? "its execution" : absl::StrJoin(ranks, ", ");
}

const v1::GetGroupResponse* FindDetail(const v1::GroupSummary& group,
                                       const std::vector<v1::GetGroupResponse>& details) {
  const auto it = std::find_if(details.begin(), details.end(), [&](const auto& detail) {
    return detail.summary().name() == group.name() &&
           detail.summary().namespace_() == group.namespace_() &&
           detail.summary().epoch() == group.epoch();
  });
  return it == details.end() || it->pending().empty() ? nullptr : &*it;
}

}  // namespace

std::string GroupName(const std::string& name_space, const std::string& name) {
  if (name_space.empty() || name_space == "default") return Escaped(name);
  return absl::StrCat(Escaped(name_space), "/", Escaped(name));
}

bool IsNewest(const v1::GroupSummary& group, const v1::ListGroupsResponse& all) {
  return std::none_of(all.groups().begin(), all.groups().end(), [&](const auto& other) {
    return other.name() == group.name() && other.namespace_() == group.namespace_() &&
           other.epoch() > group.epoch();
  });
}

bool IsStalled(const v1::GroupSummary& group) { return group.oldest_pending_ms() > kStalledMs; }

std::vector<std::string> FindProblems(const v1::GetStatusResponse& status,
                                      const v1::ListGroupsResponse& groups,
                                      const std::vector<v1::GetGroupResponse>& details) {
  std::vector<std::string> problems;
  if (status.snapshot().age_ms() > kStaleMs) {
    problems.push_back(
        absl::StrCat("the control loop has not answered for ", Age(status.snapshot().age_ms())));
  }
  for (const v1::GroupSummary& group : groups.groups()) {
    const std::string name = absl::StrCat("group ", GroupName(group.namespace_(), group.name()),
                                          " epoch ", group.epoch());
    if (IsStalled(group)) {
      const v1::GetGroupResponse* const detail = FindDetail(group, details);
      problems.push_back(detail == nullptr
                             ? absl::StrCat(name, ": an operation has been pending for ",
                                            Age(group.oldest_pending_ms()))
                             : absl::StrCat(name, ": ", Describe(detail->pending(0)),
                                            " has been pending for ",
                                            Age(detail->pending(0).age_ms()), ", waiting for ",
                                            DescribeMissing(detail->pending(0), *detail)));
    }
    if (group.state() == v1::GROUP_STATE_FAILED && IsNewest(group, groups)) {
      problems.push_back(absl::StrCat(name, " failed: ", Escaped(group.failure().message())));
    }
  }
  return problems;
}

std::string Describe(const v1::OpStatus& op) {
  const auto kind = FromProto(op.kind());
  std::string text = absl::StrCat(kind.has_value() ? NameOf(*kind) : "?", " #", op.sequence());
  const auto dtype = FromProto(op.dtype()).value_or(DataType::kNone);
  if (dtype == DataType::kNone) return text;
  const auto reduce_op = FromProto(op.op()).value_or(ReduceOp::kNone);
  absl::StrAppend(&text, " (");
  if (reduce_op != ReduceOp::kNone) absl::StrAppend(&text, NameOf(reduce_op), " of ");
  absl::StrAppend(&text, op.count(), " ", NameOf(dtype));
  if (kind.has_value() && IsRooted(*kind)) absl::StrAppend(&text, ", root ", op.root());
  return absl::StrCat(text, ")");
}

std::string Describe(v1::RankActivity activity) {
  return Words(v1::RankActivity_Name(activity), "RANK_ACTIVITY_");
}
std::string Describe(v1::GroupState state) {
  return Words(v1::GroupState_Name(state), "GROUP_STATE_");
}
std::string Describe(v1::WorkState state) {
  return Words(v1::WorkState_Name(state), "WORK_STATE_");
}

}  // namespace tutti
