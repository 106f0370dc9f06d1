// The flight recorder: the last operations of a group, kept so that "what happened?" has an answer
// after it has happened. Lives on the control loop.
#pragma once

#include <cstddef>
#include <deque>
#include <utility>
#include <vector>

#include "daemon/core/snapshot.h"

namespace tutti {

class Recorder {
 public:
  // Keeps the last `capacity` operations.
  explicit Recorder(size_t capacity) : capacity_(capacity) {}

  void Record(OpSnapshot ended) {
    ended_.push_front(std::move(ended));
    if (ended_.size() > capacity_) ended_.pop_back();
  }

  // The newest first.
  std::vector<OpSnapshot> Show() const { return {ended_.begin(), ended_.end()}; }

 private:
  const size_t capacity_;
  std::deque<OpSnapshot> ended_;
};

}  // namespace tutti
