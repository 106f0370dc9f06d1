// What clients ask for, from tutti.v1 to the core's plain values. Nothing is checked here: numbers
// that this build does not know become "none", which the core refuses.
//
// Thread-safe: free functions without state.
#pragma once

#include "daemon/core/requests.h"
#include "tutti/v1/client.pb.h"

namespace tutti {

JoinRequest FromProto(const v1::JoinGroupRequest& request);
WorkRequest FromProto(const v1::Work& work);

}  // namespace tutti
