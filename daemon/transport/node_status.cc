#include "daemon/transport/node_status.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

namespace tutti {
namespace {

// As the .proto says. The tool calls an operation stalled after the same time.
constexpr absl::Duration kStalledAfter = absl::Seconds(10);
constexpr int kSpanningMax = 64;

bool Lives(const GroupSnapshot& group) {
  return group.state == GroupState::kForming || group.state == GroupState::kReady;
}

bool IsStalled(const GroupSnapshot& group, MonotonicTime now) {
  return !group.pending.empty() && now - group.pending.front().first_submitted > kStalledAfter;
}

// If it has ranks on other nodes.
void AddIfSpanning(const GroupSnapshot& group, v1::NodeStatus* status) {
  const auto elsewhere = std::count_if(
      group.ranks.begin(), group.ranks.end(),
      [](const RankSnapshot& rank) { return rank.activity == RankActivity::kElsewhere; });
  if (elsewhere == 0 || status->spanning_size() == kSpanningMax) return;
  v1::SpanningGroup* const shown = status->add_spanning();
  shown->set_namespace_(group.name_space);
  shown->set_name(group.name);
  shown->set_epoch(group.epoch);
  shown->set_world_size(group.world_size);
  shown->set_ranks_here(static_cast<uint32_t>(group.ranks.size()) -
                        static_cast<uint32_t>(elsewhere));
}

}  // namespace

void ShowNode(const SnapshotView& view, v1::NodeStatus* status) {
  const Snapshot& snapshot = view.snapshot;
  status->set_age_ms(ShowAge(view).age_ms());
  status->set_draining(snapshot.draining);
  status->set_sessions(snapshot.sessions.size());
  status->set_works_pending(snapshot.totals.works_pending());
  // Only the newest epoch of a name can be a problem: else it has been formed again.
  std::map<std::pair<std::string, std::string>, const GroupSnapshot*> newest;
  uint64_t living = 0;
  uint64_t stalled = 0;
  for (const auto& group : snapshot.groups) {
    const GroupSnapshot*& last = newest[{group->name_space, group->name}];
    if (last == nullptr || last->epoch < group->epoch) last = group.get();
    if (IsStalled(*group, view.now)) ++stalled;
    if (!Lives(*group)) continue;
    ++living;
    AddIfSpanning(*group, status);
  }
  status->set_groups(living);
  status->set_groups_stalled(stalled);
  status->set_groups_failed(
      static_cast<uint64_t>(std::count_if(newest.begin(), newest.end(), [](const auto& entry) {
        return entry.second->state == GroupState::kFailed;
      })));
}

}  // namespace tutti
