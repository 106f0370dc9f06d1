// Memory that other processes write to without a word: what a loop looks at while it is awake.
#pragma once

namespace tutti {

// Lives on the loop's thread.
class Poller {
 public:
  virtual ~Poller() = default;

  // Does what there is to do, a bounded amount. True: call again soon. False: nothing will come
  // unless a descriptor that is watched becomes ready, or a task runs.
  virtual bool Poll() = 0;
};

}  // namespace tutti
