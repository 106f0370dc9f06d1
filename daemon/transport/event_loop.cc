#include "daemon/transport/event_loop.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/failpoint.h"

namespace tutti {
namespace {

// A task of the core takes microseconds, but for those that run an operation: up to a millisecond,
// if it touches inline_bytes_max.
constexpr size_t kTasksPerTurn = 256;
constexpr size_t kTimersPerTurn = 256;
constexpr size_t kEventsPerTurn = 64;

// Then whoever has the turn of a loop that sleeps wakes it, and goes its way.
constexpr int kTurnsLent = 16;

// While the loop does not sleep: to ask the kernel costs as much as a turn without it. Some turns
// are long, though.
constexpr int kTurnsPerEventPoll = 8;
constexpr uint64_t kEventPollNs = 100'000;

// No watch has it.
constexpr WatchId kWakeId = 0;

absl::Status Exhausted(const char* call) {
  return absl::ResourceExhaustedError(absl::StrCat(call, ": ", std::strerror(errno)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<EventLoop>> EventLoop::Create(const Clock* clock,
                                                             const std::string& name) {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return Exhausted("epoll_create1");
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return Exhausted("eventfd");
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kWakeId;
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) return Exhausted("epoll_ctl");
  return std::unique_ptr<EventLoop>(new EventLoop(clock, name, std::move(epoll), std::move(wake)));
}

EventLoop::EventLoop(const Clock* clock, const std::string& name, UniqueFd epoll, UniqueFd wake)
    : clock_(clock),
      failpoint_(absl::StrCat(name, ".task")),
      epoll_(std::move(epoll)),
      wake_(std::move(wake)),
      thread_(pthread_self()) {}

EventLoop::~EventLoop() {
  // Dropping a task may drop the last share of something that posts as it goes.
  while (true) {
    std::deque<std::function<void()>> dropped;
    {
      MutexLock lock(&mutex_);
      dropped.swap(posted_);
    }
    if (dropped.empty() && running_.empty() && timers_.empty()) break;
    running_.clear();
    timers_.clear();
  }
}

bool EventLoop::IsCurrent() const { return pthread_equal(thread_.load(), pthread_self()) != 0; }

void EventLoop::Post(std::function<void()> task) {
  bool wake = false;
  {
    MutexLock lock(&mutex_);
    posted_.push_back(std::move(task));
    wake = std::exchange(sleeping_, false);
  }
  if (wake) Wake();
}

void EventLoop::Wake() const {
  // Fails only if the counter is full, and then the loop is awake.
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof(one));
}

// --- The turn of a loop that sleeps is lent to who has something for it ---

void EventLoop::PostOrRun(std::function<void()> task) {
  {
    MutexLock lock(&mutex_);
    posted_.push_back(std::move(task));
    if (!std::exchange(sleeping_, false)) return;
    lent_ = true;
  }
  TakeTurn();
}

void EventLoop::TakeTurn() {
  const pthread_t owner = thread_.exchange(pthread_self());
  for (int turn = 1;; ++turn) {
    RunTasks();
    const bool may_sleep = MaySleepOn();
    MutexLock lock(&mutex_);
    // Posted meanwhile: nobody else was woken for it.
    if (may_sleep && !posted_.empty() && !wanted_back_ && turn < kTurnsLent) continue;
    sleeping_ = may_sleep && posted_.empty() && !wanted_back_;
    if (!sleeping_ && !wanted_back_) Wake();
    thread_ = owner;
    lent_ = false;
    given_back_.Signal();
    return;
  }
}

bool EventLoop::MaySleepOn() {
  if (!running_.empty() || stopping_) return false;
  if (!timers_.empty() && timers_.begin()->first < sleeps_until_) return false;
  // It also tells those whose memory the tasks have written to.
  return poller_ == nullptr || poller_->MaySleep();
}

void EventLoop::PostAt(MonotonicTime when, std::function<void()> task) {
  if (IsCurrent()) {
    timers_.emplace(when, std::move(task));
    return;
  }
  Post([this, when, task = std::move(task)]() mutable { timers_.emplace(when, std::move(task)); });
}

absl::StatusOr<WatchId> EventLoop::Watch(int fd, uint32_t events,
                                         std::function<void(uint32_t ready)> callback) {
  TUTTI_CHECK(IsCurrent());
  // Events carry the id and not the descriptor: one that was found before its descriptor was closed
  // must not reach whoever gets the same number next.
  const WatchId id = ++last_watch_;
  epoll_event event{};
  event.events = events;
  event.data.u64 = id;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return Exhausted("epoll_ctl");
  watches_.emplace(id, Watched{fd, std::make_shared<Callback>(std::move(callback))});
  return id;
}

void EventLoop::Unwatch(WatchId watch) {
  TUTTI_CHECK(IsCurrent());
  const auto found = watches_.find(watch);
  if (found == watches_.end()) return;
  TUTTI_CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, found->second.fd, nullptr) == 0);
  watches_.erase(found);
}

void EventLoop::Run() {
  thread_ = pthread_self();
  stopping_ = false;
  int turns = 0;
  uint64_t polled_ns = 0;
  while (!stopping_) {
    const MonotonicTime now = clock_->Now();
    const auto now_ns = static_cast<uint64_t>(absl::ToUnixNanos(now));
    bool progress = RunTimers(now);
    progress |= RunTasks();
    progress |= poller_ != nullptr && poller_->Poll(now_ns);
    const bool may_sleep = YieldOrSleep(progress, now_ns);
    const bool is_due = ++turns >= kTurnsPerEventPoll || now_ns - polled_ns > kEventPollNs;
    if (!may_sleep && !is_due) continue;
    turns = 0;
    polled_ns = now_ns;
    if (PollDescriptors(may_sleep)) waiting_ = false;
  }
}

void EventLoop::SetPoller(Poller* poller) {
  TUTTI_CHECK(IsCurrent());
  poller_ = poller;
}

bool EventLoop::YieldOrSleep(bool progress, uint64_t now_ns) {
  if (progress) {
    if (std::exchange(waiting_, false)) spin_.Succeeded();
    return false;
  }
  if (poller_ == nullptr || !poller_->IsAwake()) return true;
  if (!std::exchange(waiting_, true)) spin_.Start(now_ns);
  if (spin_.MayYield(now_ns)) {
    sched_yield();
    return false;
  }
  return poller_->MaySleep();
}

void EventLoop::Stop() {
  Post([this] { stopping_ = true; });
}

void EventLoop::RunPostedTasks() {
  TUTTI_CHECK(IsCurrent());
  while (RunTasks()) {
  }
}

bool EventLoop::RunTasks() {
  if (running_.empty()) {
    MutexLock lock(&mutex_);
    running_.swap(posted_);
  }
  if (running_.empty()) return false;
  for (size_t i = 0; i < kTasksPerTurn && !running_.empty(); ++i) {
    const std::function<void()> task = std::move(running_.front());
    running_.pop_front();
    Failpoint(failpoint_);
    task();
  }
  return true;
}

bool EventLoop::RunTimers(MonotonicTime now) {
  for (size_t i = 0; i < kTimersPerTurn; ++i) {
    if (timers_.empty() || timers_.begin()->first > now) return i > 0;
    const auto timer = timers_.extract(timers_.begin());
    Failpoint(failpoint_);
    timer.mapped()();
  }
  return true;
}

int EventLoop::TimeoutMs(MonotonicTime when) const {
  if (when == absl::InfiniteFuture()) return -1;
  const absl::Duration wait = when - clock_->Now();
  // Rounded up: waking before the time would spin until it has come.
  const int64_t ms = absl::ToInt64Milliseconds(absl::Ceil(wait, absl::Milliseconds(1)));
  return static_cast<int>(std::clamp<int64_t>(ms, 0, INT_MAX));
}

void EventLoop::ClearWake() const {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t taken = read(wake_.get(), &count, sizeof(count));
}

bool EventLoop::PollDescriptors(bool may_sleep) {
  int timeout_ms = 0;
  if (may_sleep && running_.empty() && !stopping_) {
    MutexLock lock(&mutex_);
    // Decided under the lock, so that a task is either seen here or finds `sleeping_` set.
    sleeping_ = posted_.empty();
    if (sleeping_) {
      sleeps_until_ = timers_.empty() ? absl::InfiniteFuture() : timers_.begin()->first;
      timeout_ms = TimeoutMs(sleeps_until_);
    }
  }
  std::array<epoll_event, kEventsPerTurn> events;
  const int count = epoll_wait(epoll_.get(), events.data(), kEventsPerTurn, timeout_ms);
  TUTTI_CHECK(count >= 0 || errno == EINTR);
  {
    MutexLock lock(&mutex_);
    wanted_back_ = true;
    while (lent_) given_back_.Wait(&mutex_);
    wanted_back_ = false;
    sleeping_ = false;
  }
  for (int i = 0; i < count; ++i) {
    const WatchId id = events[i].data.u64;
    if (id == kWakeId) {
      ClearWake();
      continue;
    }
    const auto found = watches_.find(id);
    if (found == watches_.end()) continue;
    // Shared, because the callback may unwatch itself.
    const std::shared_ptr<Callback> callback = found->second.callback;
    (*callback)(events[i].events);
  }
  return count > 0;
}

}  // namespace tutti
