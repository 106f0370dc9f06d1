// Named places in the code where a test can hold a thread, or make the code wrong on purpose.
//
//   Failpoint("execute.before_run");                 // may be held here
//   if (Mutated("admit.skip_bounds")) { ... }        // a planted defect that a checker must see
//
// Both compile to nothing without TUTTI_FAILPOINTS; release builds have none (a test looks for
// their names in the binary). Thread-safe.
#pragma once

#include <cstdint>
#include <string_view>

namespace tutti {

enum class FailpointAction : uint8_t {
  kQuery,  // changes nothing
  kOff,
  kPause,
  kMutate,
};

struct FailpointState {
  uint64_t hits = 0;
  uint32_t held = 0;
};

#ifdef TUTTI_FAILPOINTS

inline constexpr bool kFailpointsBuiltIn = true;

// Counts a hit, and holds the thread while the action is kPause.
void Failpoint(std::string_view name);

// Counts a hit; true while the action is kMutate.
bool Mutated(std::string_view name);

#else

inline constexpr bool kFailpointsBuiltIn = false;
inline void Failpoint(std::string_view) {}
constexpr bool Mutated(std::string_view) { return false; }

#endif

// Sets the action from the `from_hit`-th next hit on (1 = the next), and lets go whoever is held
// there if it is not kPause. Returns the state after that. Hits are counted from the first time
// that a failpoint is named here. Without failpoints built in, does nothing.
FailpointState SetFailpoint(std::string_view name, FailpointAction action, uint32_t from_hit);

}  // namespace tutti
