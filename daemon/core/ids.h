// The numbers that name things inside one daemon. Plain integers: they travel in messages.
#pragma once

#include <cstdint>

namespace tutti {

// Sessions of this daemon: 1, 2, 3...
using SessionId = uint64_t;
// Arenas of one session: 1, 2, 3...
using ArenaId = uint64_t;
// A seat that a session holds: (group epoch, rank). Unique within the daemon.
using MembershipId = uint64_t;
// A join that waits for its group to form. Unique within the daemon.
using JoinId = uint64_t;
// Works of one session: 1, 2, 3..., without gaps.
using WorkNumber = uint64_t;

}  // namespace tutti
