// What happens to a client when its process forks: nothing of it works in the child, and the child
// does not keep the session alive.
//
// The child inherits locks that other threads held, and a copy of the session socket: with that
// open the daemon would not notice that the parent died. So the child's copy is closed right in
// fork(), and every call looks at ForkCount before it takes a lock. Thread-safe.
#pragma once

#include <cstdint>
#include <optional>

#include "base/failure.h"

namespace tutti {
inline namespace client {

// Grows by one in each child: differs between a process and its descendants.
uint32_t ForkCount();

// The failure of whoever was made when ForkCount was `made_at`, if that was another process.
std::optional<Failure> ForkedSince(uint32_t made_at);

// Replaces `fd` by /dev/null in children from now on. Its number stays taken there, so that closing
// it later harms nobody. False if too many are registered.
bool CloseInChildren(int fd);

// Undoes that. Call it before closing `fd`.
void KeepInChildren(int fd);

}  // namespace client
}  // namespace tutti
