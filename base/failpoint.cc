#include "base/failpoint.h"

#ifdef TUTTI_FAILPOINTS

#include <atomic>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"

namespace tutti {
namespace {

struct Point {
  FailpointAction action = FailpointAction::kOff;
  uint64_t active_from = 0;
  FailpointState state;
};

class Registry {
 public:
  static Registry& Get() {
    static Registry* const registry = new Registry;
    return *registry;
  }

  void Hold(std::string_view name) {
    if (!any_set_.load(std::memory_order_acquire)) return;
    MutexLock lock(&mutex_);
    Point* const point = Hit(name);
    if (point == nullptr || !Active(*point, FailpointAction::kPause)) return;
    ++point->state.held;
    while (point->action == FailpointAction::kPause) changed_.Wait(&mutex_);
    --point->state.held;
  }

  bool Mutates(std::string_view name) {
    if (!any_set_.load(std::memory_order_acquire)) return false;
    MutexLock lock(&mutex_);
    const Point* const point = Hit(name);
    return point != nullptr && Active(*point, FailpointAction::kMutate);
  }

  FailpointState Set(std::string_view name, FailpointAction action, uint32_t from_hit) {
    MutexLock lock(&mutex_);
    any_set_.store(true, std::memory_order_release);
    Point& point = points_[std::string(name)];
    if (action == FailpointAction::kQuery) return point.state;
    point.action = action;
    point.active_from = point.state.hits + (from_hit == 0 ? 1 : from_hit);
    changed_.SignalAll();
    return point.state;
  }

 private:
  Point* Hit(std::string_view name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto found = points_.find(name);
    if (found == points_.end()) return nullptr;
    ++found->second.state.hits;
    return &found->second;
  }

  static bool Active(const Point& point, FailpointAction action) {
    return point.action == action && point.state.hits >= point.active_from;
  }

  // Keeps the cost of a failpoint nobody has set at one load.
  std::atomic<bool> any_set_{false};
  Mutex mutex_;
  CondVar changed_;
  std::map<std::string, Point, std::less<>> points_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

void Failpoint(std::string_view name) { Registry::Get().Hold(name); }

bool Mutated(std::string_view name) { return Registry::Get().Mutates(name); }

FailpointState SetFailpoint(std::string_view name, FailpointAction action, uint32_t from_hit) {
  return Registry::Get().Set(name, action, from_hit);
}

}  // namespace tutti

#else

namespace tutti {

FailpointState SetFailpoint(std::string_view, FailpointAction, uint32_t) { return {}; }

}  // namespace tutti

#endif
