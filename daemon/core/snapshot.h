// What the core shows to people: values, published by the control loop, read by any thread.
//
// Status never waits for the loop. A snapshot is immutable; groups that did not change since the
// last one are shared with it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/failure.h"
#include "base/types.h"
#include "daemon/core/ids.h"

namespace tutti {

enum class WorkState : uint8_t {
  kSubmitted = 1,
  kMatched = 2,
  kAgreed = 3,
  kRunning = 4,
  kDone = 5,
  kFailed = 6,
};

enum class GroupState : uint8_t { kForming = 1, kReady = 2, kFailed = 3, kClosed = 4 };

// One operation, pending or ended.
struct OpSnapshot {
  uint64_t sequence = 0;
  CollectiveKind kind = CollectiveKind::kNone;
  DataType dtype = DataType::kNone;
  ReduceOp op = ReduceOp::kNone;
  uint64_t count = 0;
  Rank root = 0;
  Rank source = 0;
  WorkState state = WorkState::kSubmitted;
  MonotonicTime first_submitted;
  // Equal to first_submitted while ranks are missing.
  MonotonicTime last_submitted;
  // Meaningful once it has ended.
  MonotonicTime ended;
  // Empty once it has ended.
  std::vector<Rank> arrived;
  std::vector<Rank> missing;
  std::optional<Failure> failure;
};

// What a rank is doing, as far as the core knows. That its process is stopped is for whoever reads
// the snapshot to find out (daemon/core/process.h), so that the answer is fresh.
enum class RankActivity : uint8_t {
  kNeverJoined = 1,
  kIdle = 2,
  kWaiting = 3,
  kInOtherOperation = 4,
  kStopped = 5,
  kGone = 6,
  kLeft = 7,
  kElsewhere = 8,
};

struct RankSnapshot {
  Rank rank = 0;
  SessionId session = 0;  // 0: none
  uint32_t pid = 0;
  RankActivity activity = RankActivity::kNeverJoined;
  uint64_t last_sequence = 0;
  // "in allreduce #12 of group "dp"", without an age; empty if there is nothing to add.
  std::string detail;
  // Since when it is doing that.
  MonotonicTime since;
};

struct GroupSnapshot {
  std::string name_space;
  std::string name;
  uint64_t epoch = 0;
  GroupState state = GroupState::kForming;
  uint32_t world_size = 0;
  uint32_t joined = 0;
  std::string backend;
  uint64_t ops_done = 0;
  uint64_t ops_failed = 0;
  double ops_per_second = 0;
  double bytes_per_second = 0;
  uint64_t pending_count = 0;
  std::optional<Failure> failure;
  std::vector<RankSnapshot> ranks;
  std::vector<OpSnapshot> pending;  // the oldest first; at most 64
  std::vector<OpSnapshot> recent;   // ended ones, the newest first
};

struct SessionSnapshot {
  SessionId id = 0;
  uint32_t pid = 0;
  uint32_t uid = 0;
  std::string name_space;
  std::string label;
  std::string client_version;
  std::string lane;     // "none" while not attached
  std::string no_ring;  // why it is not the ring, if the client says so
  uint32_t arenas = 0;
  uint64_t arena_bytes = 0;
  uint32_t memberships = 0;
  uint64_t works_pending = 0;
  uint64_t works_received = 0;
  MonotonicTime opened;
};

// Counters since the daemon started. submitted = done + failed + pending, at every moment.
struct Totals {
  uint64_t works_submitted = 0;
  uint64_t works_done = 0;
  uint64_t works_failed = 0;
  uint64_t works_pending() const { return works_submitted - works_done - works_failed; }
};

struct Snapshot {
  uint64_t number = 0;
  MonotonicTime taken;
  bool draining = false;
  Totals totals;
  uint64_t arena_bytes = 0;
  std::vector<std::shared_ptr<const GroupSnapshot>> groups;  // living ones, then past ones
  std::vector<SessionSnapshot> sessions;
};

}  // namespace tutti
