// Failures for places that hold only so many bytes: a packet of the session socket, a slot of a
// ring.
//
// Thread-safe: a free function without state.
#pragma once

#include <cstddef>

#include "base/failure.h"
#include "tutti/v1/types.pb.h"

namespace tutti {

// The failure in at most `bytes_max` bytes: whole if it fits, else without the lists of ranks and
// with the beginning of its message. REQUIRES: bytes_max >= 2048
v1::Failure ToShortProto(const Failure& failure, size_t bytes_max);

}  // namespace tutti
