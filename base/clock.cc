#include "base/clock.h"

#include <ctime>

namespace tutti {

MonotonicTime RealClock::Now() const {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return absl::TimeFromTimespec(now);
}

}  // namespace tutti
