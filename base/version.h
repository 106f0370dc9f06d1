// What this tree calls itself, to people and on the wire.
#pragma once

#include <cstdint>

namespace tutti {

// Semantic version of daemon, tool and C++ client.
inline constexpr char kVersion[] = "0.1.0";

// Of session socket and client service. A daemon refuses clients that speak another one, naming
// both; fields may be added without a new number, since old readers skip what they don't know.
inline constexpr uint32_t kProtocolVersion = 1;

}  // namespace tutti
