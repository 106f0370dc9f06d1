// What a Group handle points to. Plain data, never changed once made.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "base/types.h"

namespace tutti {
inline namespace client {

class Connection;

// The daemon ends joins and works at their deadlines; if nothing is heard for this much longer, it
// is the daemon itself that does not answer.
inline constexpr absl::Duration kGrace = absl::Seconds(10);

// What goes over the wire: whole milliseconds, zero only for zero.
uint64_t ToMilliseconds(absl::Duration duration);

struct Seat {
  // Shared with the client and other groups.
  std::shared_ptr<Connection> connection;
  uint64_t membership = 0;
  std::string group;
  uint64_t epoch = 0;
  Rank rank = 0;
  uint32_t world_size = 0;
  absl::Duration work_timeout;  // zero: not known here
};

}  // namespace client
}  // namespace tutti
