// Memory that other processes write to without a word: what a loop looks at while it is awake.
#pragma once

#include <cstdint>

namespace tutti {

// Lives on the loop's thread.
class Poller {
 public:
  virtual ~Poller() = default;

  // Does what there is to do, for a fraction of a millisecond or one operation more. Returns
  // whether there was anything. `now_ns` is CLOCK_MONOTONIC.
  virtual bool Poll(uint64_t now_ns) = 0;

  // False: nothing will come unless a descriptor that is watched becomes ready, or a task runs.
  virtual bool IsAwake() const = 0;

  // The loop would sleep: true if whatever comes next makes a descriptor ready that is watched;
  // false if something has come already.
  virtual bool MaySleep() = 0;
};

}  // namespace tutti
