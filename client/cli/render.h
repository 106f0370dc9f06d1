// The tool's screens: from what the daemon answers to what people read.
//
// Thread-safe: pure functions. No line is wider than the style's width, but for messages, which are
// wrapped, and fixed columns, if the terminal is narrower than 80.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "tutti/v1/admin.pb.h"

namespace tutti {

struct Style {
  size_t width = 80;
  bool color = false;
};

// A warning in front of everything else if the snapshot is old; else empty.
std::string RenderStaleness(const v1::SnapshotInfo& snapshot, const Style& style);

// One screen: the daemon, the groups that matter most, the problems.
std::string RenderStatus(const v1::GetStatusResponse& status, const v1::ListGroupsResponse& groups,
                         const std::vector<v1::GetGroupResponse>& details, const Style& style);

// One screen: all daemons of the cluster, the groups over several of them, the problems.
std::string RenderCluster(const v1::GetClusterResponse& cluster, const Style& style);

// All groups, `rows_max` at most (0: all).
std::string RenderGroups(const v1::ListGroupsResponse& groups, size_t rows_max, const Style& style);

// One group: its ranks, what waits, why it failed.
std::string RenderGroup(const v1::GetGroupResponse& group, const Style& style);

std::string RenderSessions(const v1::ListSessionsResponse& sessions, const Style& style);

std::string RenderOps(const v1::ListOpsResponse& ops, const Style& style);

}  // namespace tutti
