// How long whoever waits at a ring yields its processor before it sleeps.
//
// To be woken costs some 25 microseconds, to yield one or less, if the processor is idle or its
// other threads have little to do. So the budget is of the processor's time that yielding takes
// from others: a yield that lets another thread run costs no more than the switch, however long
// that thread runs. With as many ranks as you like on a processor, each yields until all had turns.
//
// But one that computes keeps the processor for milliseconds once it has been given, while a
// sleeper that is woken takes it back at once. So a yield that took several times the budget is a
// lesson: the next waits sleep without yielding, the more of them the more often that happens.
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
    last_ns_ = now_ns;
    spent_ns_ = 0;
    yielding_ = skip_ == 0;
    if (skip_ > 0) --skip_;
  }

  // Nothing has come: true to yield and look again, false to sleep.
  bool MayYield(uint64_t now_ns) {
    if (!yielding_) return false;
    const uint64_t took_ns = now_ns - last_ns_;
    last_ns_ = now_ns;
    if (took_ns > kLesson * budget_ns_) {
      penalty_ = std::min(std::max(2 * penalty_, 1U), kPenaltyMax);
      skip_ = penalty_;
      return yielding_ = false;
    }
    spent_ns_ += std::min(took_ns, kSwitchNs);
    yielding_ = spent_ns_ < budget_ns_;
    return yielding_;
  }

  // What was waited for has come while it yielded.
  void Succeeded() {
    if (yielding_) penalty_ /= 2;
  }

 private:
  // What one yield takes itself, if it leads to another thread: measured, twice 0.8 microseconds
  // and what the caches lose.
  static constexpr uint64_t kSwitchNs = 2000;

  // So many budgets are longer than it takes to be woken.
  static constexpr uint64_t kLesson = 4;

  // Then one wait in 65 tries again: 3 ms, the most that a yield has been seen to take, are 50
  // microseconds for each of these.
  static constexpr uint32_t kPenaltyMax = 64;

  uint64_t budget_ns_;
  uint64_t last_ns_ = 0;
  uint64_t spent_ns_ = 0;
  bool yielding_ = false;
  uint32_t penalty_ = 0;
  uint32_t skip_ = 0;  // waits to come that sleep at once
};

}  // namespace tutti
