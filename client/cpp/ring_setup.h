// Makes a session's ring: an arena of its own with the region in it, which the daemon then takes
// for the session's lane.
//
// Thread-safe: a free function without state.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "client/cpp/arena_pool.h"
#include "client/cpp/ring_lane.h"
#include "client/cpp/session_socket.h"

namespace tutti {
inline namespace client {

// Options of a ring lane, but for `pool` and `broken`. `in_flight_max` is what Welcome says.
// Blocks. Fails as ArenaSource::Make, and with what the daemon has against it.
Result<RingLane::Options> MakeRing(ArenaSource* arenas, SessionSocket* socket,
                                   uint64_t in_flight_max);

}  // namespace client
}  // namespace tutti
