// What people see: from the core's snapshot to the answers of the admin service.
//
// Pure and thread-safe: a snapshot is immutable. Ages are computed here, so that an answer tells
// the truth while the control loop is stuck; whether a process is stopped is asked here, for the
// same reason. No answer exceeds gRPC's 4 MiB: lists are cut, and say so.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "daemon/core/process.h"
#include "daemon/core/snapshot.h"
#include "tutti/v1/admin.pb.h"

namespace tutti {

// What an answer is made of, besides the request.
struct SnapshotView {
  const Snapshot& snapshot;
  MonotonicTime now;
  const ProcessProbe& processes;
  // For one answer. Below 4 MiB by what its frame and its last element may take.
  size_t bytes_max = size_t{7} << 19;
};

v1::SnapshotInfo ShowAge(const SnapshotView& view);

// Fills what the snapshot knows; the daemon's own facts are the caller's.
void ShowStatus(const SnapshotView& view, v1::GetStatusResponse* response);

v1::ListGroupsResponse ShowGroups(const SnapshotView& view, const v1::ListGroupsRequest& request);
v1::ListSessionsResponse ShowSessions(const SnapshotView& view,
                                      const v1::ListSessionsRequest& request);
v1::ListOpsResponse ShowOps(const SnapshotView& view, const v1::ListOpsRequest& request);

// Of several epochs of one name, the one that lives, or else the newest. Fails with kNotFound, and
// with kInvalid if the name lives in several namespaces and the request names none.
Result<v1::GetGroupResponse> ShowGroup(const SnapshotView& view,
                                       const v1::GetGroupRequest& request);

// Everything, for the log: one line per group and per session.
std::vector<std::string> DescribeSnapshot(const SnapshotView& view);

}  // namespace tutti
