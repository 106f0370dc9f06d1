// Between frames of a link and tutti.v1.LinkFrame.
//
// Thread-safe: free functions without state. Other daemons are believed, and yet not trusted to be
// right: what could not be, is refused, and ends the link.
#pragma once

#include <cstddef>

#include "absl/status/statusor.h"
#include "daemon/peer/frames.h"
#include "tutti/v1/peer.pb.h"

namespace tutti {

// Bytes of one frame, at most. The largest are an Answer that tells of each of 65536 ranks, the
// most that world_size_max can allow, what it does (200 bytes), and a Roster of as many nodes (80
// bytes).
inline constexpr size_t kFrameBytesMax = 16 << 20;

// Total. Times are rounded up to milliseconds; what has passed is 0.
v1::LinkFrame ToProto(const LinkFrame& frame);

// Fails with kInvalidArgument, naming the field: an id that has not 16 bytes, a kind that this
// build does not know, a number beyond every bound.
absl::StatusOr<LinkFrame> FromProto(const v1::LinkFrame& frame);

// Total.
v1::Node ToProto(const NodeInfo& node);

}  // namespace tutti
