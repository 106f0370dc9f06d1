// How this daemon is, in short, for other daemons: from the core's snapshot.
//
// Pure and thread-safe: a snapshot is immutable.
#pragma once

#include "daemon/transport/snapshot_convert.h"
#include "tutti/v1/cluster.pb.h"

namespace tutti {

// Fills what the snapshot knows; version and uptime are the caller's.
void ShowNode(const SnapshotView& view, v1::NodeStatus* status);

}  // namespace tutti
