// Every bound of the core, with its arithmetic. Settings have their defaults in
// tutti/v1/config.proto; what is no setting is a constant here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace tutti {

// What an operator may set. The fields are those of tutti.v1.DaemonConfig.
struct Limits {
  uint64_t sessions_max = 4096;
  uint64_t sessions_per_user_max = 1024;
  uint64_t arena_bytes_max = uint64_t{1} << 40;
  uint64_t arena_bytes_per_session_max = uint64_t{1} << 40;
  uint64_t arenas_per_session_max = 256;
  uint64_t groups_per_namespace_max = 1024;
  uint64_t world_size_max = 1024;
  uint64_t works_in_flight_max = 1024;
  uint64_t inline_bytes_max = 8 << 20;
  uint64_t recorder_ops_max = 256;
  uint64_t send_bytes_max = 256 << 20;
  uint64_t send_bytes_per_session_max = 16 << 20;
  absl::Duration work_timeout = absl::Minutes(5);
  absl::Duration join_timeout = absl::Minutes(5);
  absl::Duration timeout_max = absl::Hours(24);
  absl::Duration stall_warning = absl::Seconds(10);
};

// Group names, namespaces and labels. 256 bytes hold any name that people have been seen to use
// (a UUID and a job path), and 4096 groups of them still fit a status message of 4 MiB.
inline constexpr size_t kNameBytesMax = 256;

// Spans on either side of one work: one per rank for operations that take lists, and as many
// tensors at once for the others. A work of 1024 is some 30 KiB on the wire.
inline constexpr size_t kSpansPerWorkMax = 1024;

// A send of at most that many bytes completes once it is copied: a copy of 64 KiB takes 5
// microseconds of the loop, less than a wake-up.
inline constexpr size_t kEagerSendBytesMax = 64 << 10;

// What a sent copy counts beside its bytes: its operation, work and places in tables are some 900
// bytes of the daemon.
inline constexpr size_t kSentOverheadBytes = 1024;

// Arenas are whole pages: they are mapped.
inline constexpr uint64_t kArenaAlignmentBytes = 4096;

// Ended groups that status still shows, the newest ones: enough to find out in the morning why a
// job ended, at 256 operations of about 200 bytes each (64 x 256 x 200 B = 3.3 MB).
inline constexpr size_t kPastGroupsMax = 64;

// Pending operations of one group that a snapshot shows.
inline constexpr size_t kPendingShownMax = 64;

// How often the control loop publishes a snapshot: fresh enough for people, and 4 wake-ups per
// second are well below 1 % of a core.
inline constexpr absl::Duration kSnapshotPeriod = absl::Milliseconds(250);

}  // namespace tutti
