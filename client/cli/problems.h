// What in a daemon's answers an operator should know: what `tutti status` lists and --check tests.
//
// Thread-safe: free functions without state.
#pragma once

#include <string>
#include <vector>

#include "tutti/v1/admin.pb.h"

namespace tutti {

// An operation that waits longer than this is called stalled; the daemon's log uses the same.
inline constexpr uint64_t kStalledMs = 10'000;

// A control loop that has not published for this long is stuck: it does so four times a second.
inline constexpr uint64_t kStaleMs = 1'000;

// A daemon that has not found the seed for this long: half a second is usual, when that restarts.
inline constexpr uint64_t kSeedlessMs = 5'000;

// "dp", or "job/dp" outside the default namespace; escaped.
std::string GroupName(const std::string& name_space, const std::string& name);

// True if nobody has formed the group again since: only the newest epoch of a name can be a
// problem.
bool IsNewest(const v1::GroupSummary& group, const v1::ListGroupsResponse& all);

bool IsStalled(const v1::GroupSummary& group);

// One line for each, without colour. `details` holds what GetGroup said about stalled groups; it
// may lack some. Empty: all is well.
std::vector<std::string> FindProblems(const v1::GetStatusResponse& status,
                                      const v1::ListGroupsResponse& groups,
                                      const std::vector<v1::GetGroupResponse>& details);

// The same of a cluster: who is out of reach, and which nodes have problems of their own.
std::vector<std::string> FindClusterProblems(const v1::GetClusterResponse& cluster);

// How many problems the node has of its own.
uint64_t CountProblems(const v1::NodeStatus& status);

// "node7 (198.51.100.7:7411)", escaped.
std::string Describe(const v1::Node& node);

// "allreduce #12 (sum of 1024 float32)".
std::string Describe(const v1::OpStatus& op);

// "waiting", "never joined".
std::string Describe(v1::RankActivity activity);

// The name without its prefix, in lower case: "ready".
std::string Describe(v1::GroupState state);
std::string Describe(v1::WorkState state);

}  // namespace tutti
