// What clients ask for, from tutti.v1 and from the ring to the core's plain values. Nothing is
// checked here: numbers that this build does not know become "none", which the core refuses.
//
// Thread-safe: free functions without state.
#pragma once

#include "daemon/core/requests.h"
#include "shm/ring_layout.h"
#include "tutti/v1/client.pb.h"

namespace tutti {

JoinRequest FromProto(const v1::JoinGroupRequest& request);
WorkRequest FromProto(const v1::Work& work);

Span FromRing(const RingSpan& span);
// All but the spans.
void FromRing(const SubmissionEntry& entry, WorkRequest* request);

}  // namespace tutti
