// Waiting for descriptors: the half of the event loop that sockets see, so that tests can fire
// events by hand.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"

namespace tutti {

// Names one watch; never reused.
using WatchId = uint64_t;

// Lives on one thread: every call and every callback is made there.
class FdWatcher {
 public:
  virtual ~FdWatcher() = default;

  // Calls `callback` with what is ready (EPOLLIN, EPOLLHUP...) for as long as it is:
  // level-triggered. The caller keeps `fd` open until Unwatch. Fails with kResourceExhausted.
  virtual absl::StatusOr<WatchId> Watch(int fd, uint32_t events,
                                        std::function<void(uint32_t ready)> callback) = 0;

  // The callback is not called any more, not even for events that have been found already; allowed
  // from within it. Unknown ids are ignored.
  virtual void Unwatch(WatchId watch) = 0;
};

}  // namespace tutti
