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

std::string Groups(uint64_t number) {
  return absl::StrCat(number, number == 1 ? " group" : " groups");
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
  const v1::Membership& membership = status.membership();
  if (status.has_membership() && !membership.connected() && membership.since_ms() > kSeedlessMs) {
    problems.push_back(absl::StrCat("the seed at ", Escaped(membership.join()),
                                    " has been out of reach for ", Age(membership.since_ms()),
                                    ", so no group can be formed: ", Escaped(membership.why())));
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

uint64_t CountProblems(const v1::NodeStatus& status) {
  return status.groups_failed() + status.groups_stalled() + (status.age_ms() > kStaleMs ? 1 : 0);
}

std::vector<std::string> FindClusterProblems(const v1::GetClusterResponse& cluster) {
  std::vector<std::string> problems;
  if (!cluster.seed_silent().empty()) {
    const v1::Membership& membership = cluster.membership();
    const std::string seed = membership.has_seed()
                                 ? Describe(membership.seed())
                                 : absl::StrCat("at ", Escaped(membership.join()));
    problems.push_back(
        absl::StrCat("the seed ", seed, " does not answer: ", Escaped(cluster.seed_silent())));
  }
  for (const v1::ClusterNode& node : cluster.nodes()) {
    const std::string name = Describe(node.node());
    const std::string why = node.why().empty() ? "" : absl::StrCat(": ", Escaped(node.why()));
    if (node.state() == v1::NODE_STATE_SILENT) {
      problems.push_back(absl::StrCat(name, " has been silent for ", Age(node.since_ms()), why));
    } else if (node.state() == v1::NODE_STATE_LOST) {
      problems.push_back(absl::StrCat(name, " was lost ", Age(node.since_ms()), " ago", why));
    } else if (node.state() == v1::NODE_STATE_NOT_ASKED) {
      problems.push_back(absl::StrCat(name, " was not asked: time was up; try --timeout 10s"));
    } else if (node.status().age_ms() > kStaleMs) {
      problems.push_back(absl::StrCat(name, ": its control loop has not answered for ",
                                      Age(node.status().age_ms())));
    }
    const v1::NodeStatus& status = node.status();
    if (status.groups_failed() > 0) {
      problems.push_back(absl::StrCat(name, ": ", Groups(status.groups_failed()),
                                      " failed; more there: tutti status"));
    }
    if (status.groups_stalled() > 0) {
      problems.push_back(absl::StrCat(name, ": ", Groups(status.groups_stalled()),
                                      " stalled; more there: tutti status"));
    }
  }
  return problems;
}

std::string Describe(const v1::Node& node) {
  const std::string address = node.address().empty() ? "no address" : node.address();
  return absl::StrCat(Escaped(node.name()), " (", Escaped(address), ")");
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
