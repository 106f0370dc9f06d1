// A clock that moves when a test says so.
#pragma once

#include "base/clock.h"

namespace tutti {

// Not thread-safe: for tests with one thread.
class FakeClock final : public Clock {
 public:
  MonotonicTime Now() const override { return now_; }
  void Advance(absl::Duration by) { now_ += by; }

 private:
  MonotonicTime now_ = absl::UnixEpoch() + absl::Hours(1);
};

}  // namespace tutti
