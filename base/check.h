// Checks of what must be true whatever the outside does. A broken invariant ends the process: the
// supervisor restarts it, and clients see Unavailable; going on would risk their data.
//
// On in every build. "Can a client cause this?" If so, it is a Failure and not a CHECK.
#pragma once

namespace tutti {

[[noreturn]] void CheckFailed(const char* condition, const char* file, int line);

}  // namespace tutti

#define TUTTI_CHECK(condition) \
  (static_cast<bool>(condition) ? void() : ::tutti::CheckFailed(#condition, __FILE__, __LINE__))
