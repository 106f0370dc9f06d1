// What a client asks of the core, as plain values. Nothing in here has been checked yet.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/types.h"
#include "daemon/core/ids.h"

namespace tutti {

// Who attaches.
struct SessionInfo {
  // In the daemon's view; 0 if the process is not visible (another PID namespace).
  uint32_t pid = 0;
  uint32_t uid = 0;
  std::string name_space;  // empty: "default"
  std::string label;
  std::string client_version;
};

// How a session ended.
enum class SessionEnd : uint8_t {
  kHungUp,         // its process died, or at least its socket did
  kGoodbye,        // it said so
  kProtocolError,  // it broke the protocol of a lane or of the session socket
};

struct JoinRequest {
  std::string group;
  Rank rank = 0;
  uint32_t world_size = 0;
  std::string backend;  // empty: "auto"
  // Zero: the daemon's default.
  absl::Duration work_timeout;
  absl::Duration join_timeout;
  // Which the session has given it, to call it off by. 0: none.
  uint64_t number = 0;
};

// A range of one of the session's arenas.
struct Span {
  ArenaId arena = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
};

struct WorkRequest {
  WorkNumber number = 0;
  MembershipId membership = 0;
  CollectiveKind kind = CollectiveKind::kNone;
  DataType dtype = DataType::kNone;
  ReduceOp op = ReduceOp::kNone;
  Rank root = 0;  // or the other rank of a send or recv
  std::vector<Span> inputs;
  std::vector<Span> outputs;
  absl::Duration timeout;  // zero: the group's default
};

}  // namespace tutti
