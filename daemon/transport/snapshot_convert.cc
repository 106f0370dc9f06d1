#include "daemon/transport/snapshot_convert.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "proto/convert.h"

namespace tutti {
namespace {

// As the .proto says.
constexpr uint32_t kListMax = 1000;
constexpr uint32_t kOpsDefault = 100;

uint64_t Microseconds(absl::Duration duration) {
  return static_cast<uint64_t>(std::max<int64_t>(0, absl::ToInt64Microseconds(duration)));
}

// The numbers of both sides are the same.
static_assert(static_cast<int>(GroupState::kClosed) == v1::GROUP_STATE_CLOSED);
static_assert(static_cast<int>(WorkState::kFailed) == v1::WORK_STATE_FAILED);
static_assert(static_cast<int>(RankActivity::kLeft) == v1::RANK_ACTIVITY_LEFT);

v1::GroupState ToProto(GroupState state) { return static_cast<v1::GroupState>(state); }
v1::WorkState ToProto(WorkState state) { return static_cast<v1::WorkState>(state); }
v1::RankActivity ToProto(RankActivity activity) { return static_cast<v1::RankActivity>(activity); }

bool Lives(const GroupSnapshot& group) {
  return group.state == GroupState::kForming || group.state == GroupState::kReady;
}

bool HasEnded(const OpSnapshot& op) {
  return op.state == WorkState::kDone || op.state == WorkState::kFailed;
}

uint32_t LimitOf(uint32_t asked, uint32_t by_default) {
  return std::min(asked == 0 ? by_default : asked, kListMax);
}

// Adds elements to a list until the answer is full.
class Budget {
 public:
  explicit Budget(size_t bytes) : left_(bytes) {}

  // False if `message` does not fit any more.
  bool Take(const google::protobuf::Message& message) { return Take(message.ByteSizeLong()); }
  bool Take(size_t bytes_of_field) {
    // Tag and length: at most 6 bytes.
    const size_t bytes = bytes_of_field + 6;
    if (bytes > left_) return false;
    left_ -= bytes;
    return true;
  }

 private:
  size_t left_;
};

v1::GroupSummary ShowSummary(const GroupSnapshot& group, MonotonicTime now) {
  v1::GroupSummary shown;
  shown.set_namespace_(group.name_space);
  shown.set_name(group.name);
  shown.set_epoch(group.epoch);
  shown.set_state(ToProto(group.state));
  shown.set_world_size(group.world_size);
  shown.set_joined(group.joined);
  shown.set_backend(group.backend);
  shown.set_ops_done(group.ops_done);
  shown.set_ops_failed(group.ops_failed);
  shown.set_ops_per_second(group.ops_per_second);
  shown.set_bytes_per_second(group.bytes_per_second);
  shown.set_pending(group.pending_count);
  if (!group.pending.empty()) {
    shown.set_oldest_pending_ms(ToMilliseconds(now - group.pending.front().first_submitted));
  }
  if (group.failure.has_value()) *shown.mutable_failure() = ToProto(*group.failure);
  return shown;
}

v1::OpStatus ShowOp(const GroupSnapshot& group, const OpSnapshot& op, MonotonicTime now) {
  v1::OpStatus shown;
  shown.set_namespace_(group.name_space);
  shown.set_group(group.name);
  shown.set_epoch(group.epoch);
  shown.set_sequence(op.sequence);
  shown.set_kind(ToProto(op.kind));
  shown.set_dtype(ToProto(op.dtype));
  shown.set_op(ToProto(op.op));
  shown.set_count(op.count);
  shown.set_state(ToProto(op.state));
  shown.set_age_ms(ToMilliseconds(now - op.first_submitted));
  if (HasEnded(op)) {
    shown.set_arrival_spread_us(Microseconds(op.last_submitted - op.first_submitted));
    shown.set_execution_us(Microseconds(op.ended - op.last_submitted));
  }
  shown.mutable_arrived()->Add(op.arrived.begin(), op.arrived.end());
  shown.mutable_missing()->Add(op.missing.begin(), op.missing.end());
  if (op.failure.has_value()) *shown.mutable_failure() = ToProto(*op.failure);
  shown.set_source(op.source);
  shown.set_root(op.root);
  return shown;
}

// "3.2 s", "4 min 5 s", "2 h 10 min".
std::string Age(absl::Duration age) {
  const double seconds = std::max(0.0, absl::ToDoubleSeconds(age));
  if (seconds < 100) return absl::StrFormat("%.1f s", seconds);
  const int64_t whole = static_cast<int64_t>(seconds);
  if (whole < 3600) return absl::StrFormat("%d min %d s", whole / 60, whole % 60);
  return absl::StrFormat("%d h %d min", whole / 3600, whole / 60 % 60);
}

const char* Describe(RankActivity activity) {
  switch (activity) {
    case RankActivity::kNeverJoined:
      return "has not joined";
    case RankActivity::kIdle:
      return "idle";
    case RankActivity::kWaiting:
      return "waiting";
    case RankActivity::kInOtherOperation:
      return "in another operation";
    case RankActivity::kStopped:
      return "stopped";
    case RankActivity::kGone:
      return "its session has ended";
    case RankActivity::kLeft:
      return "has left";
    case RankActivity::kElsewhere:
      return "on another node";
  }
  return "?";
}

bool HasSession(RankActivity activity) {
  return activity == RankActivity::kIdle || activity == RankActivity::kWaiting ||
         activity == RankActivity::kInOtherOperation;
}

v1::RankStatus ShowRank(const RankSnapshot& rank, const SnapshotView& view) {
  v1::RankStatus shown;
  shown.set_rank(rank.rank);
  shown.set_session(rank.session);
  shown.set_pid(rank.pid);
  shown.set_last_sequence(rank.last_sequence);
  shown.set_activity(ToProto(rank.activity));
  std::string detail = rank.detail.empty() ? std::string(Describe(rank.activity)) : rank.detail;
  if (HasSession(rank.activity)) {
    absl::StrAppend(&detail, " for ", Age(view.now - rank.since));
    const ProcessState process = view.processes.StateOf(rank.pid);
    if (process == ProcessState::kStopped) {
      shown.set_activity(v1::RANK_ACTIVITY_STOPPED);
      detail = absl::StrCat("process stopped (a signal or a debugger); ", detail);
    } else if (process == ProcessState::kGone) {
      // The loop has not seen it yet, or is stuck.
      shown.set_activity(v1::RANK_ACTIVITY_GONE);
      detail = absl::StrCat("process ended; ", detail);
    }
  }
  shown.set_detail(std::move(detail));
  return shown;
}

// The oldest pending work first; the others in their order.
std::vector<const GroupSnapshot*> InOrder(const Snapshot& snapshot) {
  std::vector<const GroupSnapshot*> groups;
  groups.reserve(snapshot.groups.size());
  for (const auto& group : snapshot.groups) groups.push_back(group.get());
  const auto since = [](const GroupSnapshot* group) {
    return group->pending.empty() ? absl::InfiniteFuture() : group->pending.front().first_submitted;
  };
  std::stable_sort(
      groups.begin(), groups.end(),
      [&](const GroupSnapshot* a, const GroupSnapshot* b) { return since(a) < since(b); });
  return groups;
}

Failure NoGroup(std::string message, Cause cause) {
  return {.cause = cause, .message = std::move(message)};
}

Result<const GroupSnapshot*> FindGroup(const Snapshot& snapshot,
                                       const v1::GetGroupRequest& request) {
  // A name that lives is not made ambiguous by what has ended.
  for (const bool living : {true, false}) {
    const GroupSnapshot* found = nullptr;
    std::set<std::string> name_spaces;
    for (const auto& group : snapshot.groups) {
      if (Lives(*group) != living || group->name != request.name()) continue;
      if (!request.namespace_().empty() && group->name_space != request.namespace_()) continue;
      name_spaces.insert(group->name_space);
      if (found == nullptr || group->epoch > found->epoch) found = group.get();
    }
    if (name_spaces.size() > 1) {
      return NoGroup(absl::StrCat("group ", Quoted(request.name()), " exists in several namespaces",
                                  " (", absl::StrJoin(name_spaces, ", "), "): name one"),
                     Cause::kInvalid);
    }
    if (found != nullptr) return found;
  }
  return NoGroup(absl::StrCat("no group ", Quoted(request.name()),
                              request.namespace_().empty() ? "" : " in namespace ",
                              request.namespace_().empty() ? "" : Quoted(request.namespace_())),
                 Cause::kNotFound);
}

}  // namespace

v1::SnapshotInfo ShowAge(const SnapshotView& view) {
  v1::SnapshotInfo info;
  // The planted defect: what is shown is always claimed to be new.
  const bool lie = Mutated("snapshot.hide_age");
  info.set_age_ms(lie ? 0 : ToMilliseconds(view.now - view.snapshot.taken));
  info.set_number(view.snapshot.number);
  return info;
}

void ShowStatus(const SnapshotView& view, v1::GetStatusResponse* response) {
  const Snapshot& snapshot = view.snapshot;
  *response->mutable_snapshot() = ShowAge(view);
  response->set_draining(snapshot.draining);
  response->set_sessions(snapshot.sessions.size());
  response->set_groups(
      static_cast<uint64_t>(std::count_if(snapshot.groups.begin(), snapshot.groups.end(),
                                          [](const auto& group) { return Lives(*group); })));
  response->set_works_submitted(snapshot.totals.works_submitted);
  response->set_works_done(snapshot.totals.works_done);
  response->set_works_failed(snapshot.totals.works_failed);
  response->set_works_pending(snapshot.totals.works_pending());
  response->set_arena_bytes(snapshot.arena_bytes);
}

v1::ListGroupsResponse ShowGroups(const SnapshotView& view, const v1::ListGroupsRequest& request) {
  v1::ListGroupsResponse response;
  *response.mutable_snapshot() = ShowAge(view);
  const size_t limit = LimitOf(request.limit(), kListMax);
  Budget budget(view.bytes_max);
  size_t shown = 0;
  for (const GroupSnapshot* group : InOrder(view.snapshot)) {
    if (shown == limit) break;
    v1::GroupSummary summary = ShowSummary(*group, view.now);
    if (!budget.Take(summary)) break;
    *response.add_groups() = std::move(summary);
    ++shown;
  }
  response.set_left_out(view.snapshot.groups.size() - shown);
  return response;
}

Result<v1::GetGroupResponse> ShowGroup(const SnapshotView& view,
                                       const v1::GetGroupRequest& request) {
  const Result<const GroupSnapshot*> found = FindGroup(view.snapshot, request);
  if (!found.ok()) return found.failure();
  const GroupSnapshot& group = **found;
  v1::GetGroupResponse response;
  *response.mutable_snapshot() = ShowAge(view);
  *response.mutable_summary() = ShowSummary(group, view.now);
  Budget budget(view.bytes_max);
  (void)budget.Take(response.summary());
  // Of a very large group every rank is there (30 bytes each, at most 65536), but what it does only
  // in a word, and for people only as far as there is room.
  std::vector<std::string> details;
  for (const RankSnapshot& rank : group.ranks) {
    v1::RankStatus* const status = response.add_ranks();
    *status = ShowRank(rank, view);
    details.push_back(std::move(*status->mutable_detail()));
    status->clear_detail();
    (void)budget.Take(*status);
  }
  for (size_t i = 0; i < details.size() && budget.Take(details[i].size()); ++i) {
    response.mutable_ranks(static_cast<int>(i))->set_detail(std::move(details[i]));
  }
  for (const OpSnapshot& op : group.pending) {
    v1::OpStatus status = ShowOp(group, op, view.now);
    if (!budget.Take(status)) break;
    *response.add_pending() = std::move(status);
  }
  return response;
}

v1::ListSessionsResponse ShowSessions(const SnapshotView& view,
                                      const v1::ListSessionsRequest& request) {
  v1::ListSessionsResponse response;
  *response.mutable_snapshot() = ShowAge(view);
  const size_t limit = LimitOf(request.limit(), kListMax);
  Budget budget(view.bytes_max);
  size_t shown = 0;
  for (const SessionSnapshot& session : view.snapshot.sessions) {
    if (shown == limit) break;
    v1::SessionSummary summary;
    summary.set_id(session.id);
    summary.set_pid(session.pid);
    summary.set_uid(session.uid);
    summary.set_namespace_(session.name_space);
    summary.set_label(session.label);
    summary.set_client_version(session.client_version);
    summary.set_lane(session.lane);
    summary.set_no_ring(session.no_ring);
    summary.set_arenas(session.arenas);
    summary.set_arena_bytes(session.arena_bytes);
    summary.set_memberships(session.memberships);
    summary.set_works_pending(session.works_pending);
    summary.set_works_received(session.works_received);
    summary.set_age_ms(ToMilliseconds(view.now - session.opened));
    if (!budget.Take(summary)) break;
    *response.add_sessions() = std::move(summary);
    ++shown;
  }
  response.set_left_out(view.snapshot.sessions.size() - shown);
  return response;
}

v1::ListOpsResponse ShowOps(const SnapshotView& view, const v1::ListOpsRequest& request) {
  using Entry = std::pair<const GroupSnapshot*, const OpSnapshot*>;
  std::vector<Entry> pending;
  std::vector<Entry> ended;
  for (const auto& group : view.snapshot.groups) {
    if (!request.group().empty() && group->name != request.group()) continue;
    if (!request.failed_only()) {
      for (const OpSnapshot& op : group->pending) pending.emplace_back(group.get(), &op);
    }
    for (const OpSnapshot& op : group->recent) {
      if (request.failed_only() && op.state != WorkState::kFailed) continue;
      ended.emplace_back(group.get(), &op);
    }
  }
  std::stable_sort(pending.begin(), pending.end(), [](const Entry& a, const Entry& b) {
    return a.second->first_submitted < b.second->first_submitted;
  });
  std::stable_sort(ended.begin(), ended.end(), [](const Entry& a, const Entry& b) {
    return a.second->ended > b.second->ended;
  });
  v1::ListOpsResponse response;
  *response.mutable_snapshot() = ShowAge(view);
  const int limit = static_cast<int>(LimitOf(request.limit(), kOpsDefault));
  Budget budget(view.bytes_max);
  for (const std::vector<Entry>* list : {&pending, &ended}) {
    for (const auto& [group, op] : *list) {
      if (response.ops_size() == limit) return response;
      v1::OpStatus status = ShowOp(*group, *op, view.now);
      if (!budget.Take(status)) return response;
      *response.add_ops() = std::move(status);
    }
  }
  return response;
}

std::vector<std::string> DescribeSnapshot(const SnapshotView& view) {
  std::vector<std::string> lines;
  v1::GetStatusResponse status;
  ShowStatus(view, &status);
  lines.push_back(absl::StrCat("status {", status.ShortDebugString(), "}"));
  for (const GroupSnapshot* group : InOrder(view.snapshot)) {
    lines.push_back(absl::StrCat("group {", ShowSummary(*group, view.now).ShortDebugString(), "}"));
    if (!Lives(*group)) continue;
    for (const RankSnapshot& rank : group->ranks) {
      lines.push_back(absl::StrCat("rank {", ShowRank(rank, view).ShortDebugString(), "}"));
    }
  }
  const v1::ListSessionsResponse sessions = ShowSessions(view, {});
  for (const v1::SessionSummary& session : sessions.sessions()) {
    lines.push_back(absl::StrCat("session {", session.ShortDebugString(), "}"));
  }
  return lines;
}

}  // namespace tutti
