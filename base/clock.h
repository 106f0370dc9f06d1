// Time, injected so that tests own it.
//
// Deadlines and ages are measured on CLOCK_MONOTONIC: a step of the wall clock must not end or
// prolong a wait. (Abseil's and gRPC's own timed waits use the wall clock; we do not use them.)
#pragma once

#include "absl/time/time.h"

namespace tutti {

// A point on CLOCK_MONOTONIC, held as absl::Time for its arithmetic. Its epoch is the boot of the
// machine: never compare it with absl::Now().
using MonotonicTime = absl::Time;

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual MonotonicTime Now() const = 0;
};

// The machine's clock.
class RealClock final : public Clock {
 public:
  MonotonicTime Now() const override;
};

}  // namespace tutti
