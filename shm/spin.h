// How long whoever waits at a ring yields its processor before it sleeps.
//
// To be woken costs some 25 microseconds, to yield one or less, if the processor is idle or its
// other threads have little to do. But one that computes keeps the processor for milliseconds once
// it has been given, while a sleeper that is woken takes it back at once. So a yield that took
// longer than the whole budget is a lesson: the next waits sleep without yielding, the more of them
// the more often that happens.
//
// Pure logic, not thread-safe. Times are nanoseconds of any monotonic clock.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tutti {

class Spin {
 public:
  // 0: never yields.
  explicit Spin(uint64_t budget_ns) : budget_ns_(budget_ns) {}

  uint64_t budget_ns() const { return budget_ns_; }

  // A wait begins.
  void Start(uint64_t now_ns) {
    started_ns_ = last_ns_ = now_ns;
    yielding_ = skip_ == 0;
    if (skip_ > 0) --skip_;
  }

  // Nothing has come: true to yield and look again, false to sleep.
  bool MayYield(uint64_t now_ns) {
    if (!yielding_) return false;
    if (now_ns - last_ns_ > budget_ns_ && now_ns != last_ns_) {
      penalty_ = std::min(std::max(2 * penalty_, 1U), kPenaltyMax);
      skip_ = penalty_;
      yielding_ = false;
      return false;
    }
    last_ns_ = now_ns;
    yielding_ = now_ns - started_ns_ < budget_ns_;
    return yielding_;
  }

  // What was waited for has come while it yielded.
  void Succeeded() {
    if (yielding_) penalty_ /= 2;
  }

 private:
  // Then one wait in 65 tries again: 3 ms, the most that a yield has been seen to take, are 50
  // microseconds for each of these.
  static constexpr uint32_t kPenaltyMax = 64;

  uint64_t budget_ns_;
  uint64_t started_ns_ = 0;
  uint64_t last_ns_ = 0;
  bool yielding_ = false;
  uint32_t penalty_ = 0;
  uint32_t skip_ = 0;  // waits to come that sleep at once
};

}  // namespace tutti
