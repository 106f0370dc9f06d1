// The tool's commands: each asks the daemon once, and says what to print and how to exit.
//
// Thread-safe: free functions without state. Nothing here prints, so tests read the result.
#pragma once

#include <optional>
#include <string>

#include "absl/time/time.h"
#include "client/cli/render.h"

namespace tutti {

// Exit codes; scripts depend on them.
inline constexpr int kExitOk = 0;
inline constexpr int kExitProblem = 1;      // --check found one, or the daemon is not healthy
inline constexpr int kExitUsage = 2;        // wrong arguments
inline constexpr int kExitUnreachable = 3;  // no daemon, or it does not answer

struct CommandOptions {
  std::string socket_dir;  // absolute
  absl::Duration timeout = absl::Seconds(1);
  bool json = false;
  // Exit with kExitProblem if a group has failed, something is stalled, or a node is out of reach.
  bool check = false;
  Style style;
};

struct CommandResult {
  std::string out;    // for stdout
  std::string error;  // for stderr
  int exit_code = kExitOk;
};

CommandResult RunStatus(const CommandOptions& options);
// All daemons of the cluster, as that in `socket_dir` sees them.
CommandResult RunClusterStatus(const CommandOptions& options);
CommandResult RunGroups(const CommandOptions& options);
// `name_space`: empty if the name is unique.
CommandResult RunGroup(const CommandOptions& options, const std::string& name,
                       const std::string& name_space);
CommandResult RunSessions(const CommandOptions& options);
// `group`: empty for all. `limit`: 0 for the daemon's default.
CommandResult RunOps(const CommandOptions& options, bool failed_only, uint32_t limit,
                     const std::string& group);
CommandResult RunHealth(const CommandOptions& options);
// `wait`: how long to wait for the daemon's end; none: not at all.
CommandResult RunDrain(const CommandOptions& options, std::optional<absl::Duration> wait);
CommandResult RunVersion(const CommandOptions& options);

}  // namespace tutti
