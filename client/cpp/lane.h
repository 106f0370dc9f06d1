// How works reach the daemon, and completions come back: the ring in shared memory (ring_lane.h) or
// a gRPC stream (stream_lane.h). Numbers, checks and errors are the same on both.
//
// Thread-safe. Shared by the connection and, where those who wait take completions themselves, by
// works.
#pragma once

#include <cstdint>
#include <memory>

#include "base/failure.h"
#include "client/cpp/pending_work.h"
#include "client/cpp/request.h"

namespace tutti {
inline namespace client {

class Lane {
 public:
  virtual ~Lane() = default;

  // Numbers the work and sends it; the verdict goes to `pending`. Waits while too many are in
  // flight. Works of one thread are sent in the order of their calls.
  virtual void Submit(const Request& request, std::shared_ptr<PendingWork> pending) = 0;

  // The number of the last work submitted.
  virtual uint64_t last_number() = 0;

  // The session is over, for this reason: takes what the daemon has still said, then fails all
  // works, and later ones.
  virtual void End(const Failure& reason) = 0;

  // Waits until no callback of the lane will run. REQUIRES: End was called; not within such a
  // callback, not in a forked child, not twice at once.
  virtual void Join() = 0;
};

}  // namespace client
}  // namespace tutti
