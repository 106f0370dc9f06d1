// A thread's loop over descriptors, timers and tasks. The control loop is one, the acceptor's
// another.
//
// Post, PostOrRun, PostAt, Stop and IsCurrent: from any thread. Everything else on the loop's
// thread: the one that calls Run, before that the one that made it, and while the loop sleeps
// whoever has its turn (PostOrRun). Tasks that are left when it is destroyed are dropped, not run.
//
// Fair: a turn runs a bounded number of tasks, of timers and of events, so that none of them can
// starve the others. An idle loop sleeps in the kernel.
#pragma once

#include <pthread.h>

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/task_runner.h"
#include "base/unique_fd.h"
#include "daemon/transport/fd_watcher.h"
#include "daemon/transport/poller.h"
#include "shm/spin.h"

namespace tutti {

class EventLoop final : public SequencedTaskRunner, public FdWatcher {
 public:
  // `clock` must outlive the loop. Tests can hold it at the failpoint "<name>.task", which each
  // task and timer passes. Fails with kResourceExhausted (no descriptors).
  static absl::StatusOr<std::unique_ptr<EventLoop>> Create(const Clock* clock,
                                                           const std::string& name);
  ~EventLoop() override;

  void Post(std::function<void()> task) override;
  void PostOrRun(std::function<void()> task) override;
  // Up to a millisecond late, the resolution of epoll_wait; deadlines have none finer.
  void PostAt(MonotonicTime when, std::function<void()> task) override;
  bool IsCurrent() const override;

  absl::StatusOr<WatchId> Watch(int fd, uint32_t events,
                                std::function<void(uint32_t ready)> callback) override;
  void Unwatch(WatchId watch) override;

  // Looks at `poller`, too, from now on; it must outlive Run.
  void SetPoller(Poller* poller);

  // From now on the loop yields its processor for up to so long before it sleeps, as long as the
  // poller is awake. (Not for tasks' sake: gRPC's threads, who post them, need the processor.)
  // Meanwhile it looks at descriptors every few turns only.
  void SetSpin(uint64_t spin_us) { spin_ = Spin(spin_us * 1000); }

  // Runs until Stop. May be called again.
  void Run();
  // Makes Run return after the tasks that were posted before.
  void Stop();

  // Runs tasks until none is left, and neither waits nor looks at timers and descriptors: for what
  // other threads posted before they ended.
  void RunPostedTasks();

 private:
  using Callback = std::function<void(uint32_t ready)>;
  struct Watched {
    int fd = -1;
    std::shared_ptr<Callback> callback;
  };

  EventLoop(const Clock* clock, const std::string& name, UniqueFd epoll, UniqueFd wake);

  // What a thread does that has taken the sleeping loop's turn.
  void TakeTurn();
  // True if the loop's thread, which sleeps, has nothing to do after that turn.
  bool MaySleepOn();
  void Wake() const;
  bool RunTasks();
  bool RunTimers(MonotonicTime now);
  // Yields after a turn without `progress`, or says that the loop may sleep.
  bool YieldOrSleep(bool progress, uint64_t now_ns);
  bool PollDescriptors(bool may_sleep);
  int TimeoutMs(MonotonicTime when) const;
  void ClearWake() const;

  const Clock* const clock_;
  const std::string failpoint_;
  const UniqueFd epoll_;
  // An eventfd: written to by whoever wakes the loop.
  const UniqueFd wake_;
  std::atomic<pthread_t> thread_;

  Mutex mutex_;
  std::deque<std::function<void()>> posted_ ABSL_GUARDED_BY(mutex_);
  bool sleeping_ ABSL_GUARDED_BY(mutex_) = false;
  // Another thread has the turn; the loop's own sleeps, or wants it back and waits.
  bool lent_ ABSL_GUARDED_BY(mutex_) = false;
  bool wanted_back_ ABSL_GUARDED_BY(mutex_) = false;
  CondVar given_back_;

  // Of who has the turn. `running_` are tasks taken out of `posted_`.
  std::deque<std::function<void()>> running_;
  std::multimap<MonotonicTime, std::function<void()>> timers_;
  std::unordered_map<WatchId, Watched> watches_;
  WatchId last_watch_ = 0;
  MonotonicTime sleeps_until_ = absl::InfinitePast();
  Poller* poller_ = nullptr;
  Spin spin_{0};
  bool waiting_ = false;  // the last turn found nothing
  bool stopping_ = false;
};

}  // namespace tutti
