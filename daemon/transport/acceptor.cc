#include "daemon/transport/acceptor.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/log.h"

namespace tutti {
namespace {

// Then the other listeners get their turn.
constexpr int kAcceptsPerTurn = 64;

// How long to leave the queue of connections alone when none can be accepted. Short enough to go
// unnoticed, long enough to cost nothing.
constexpr absl::Duration kPause = absl::Milliseconds(100);

constexpr absl::Duration kLogPeriod = absl::Seconds(1);

UniqueFd OpenReserve() { return UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC)); }

UniqueFd AcceptOne(int socket) {
  return UniqueFd(accept4(socket, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Acceptor>> Acceptor::Start(const Clock* clock,
                                                          std::vector<Listener> listeners) {
  auto loop = EventLoop::Create(clock, "acceptor");
  if (!loop.ok()) return loop.status();
  std::unique_ptr<Acceptor> acceptor(new Acceptor(clock, std::move(*loop), std::move(listeners)));
  if (!acceptor->reserve_.valid() || !acceptor->WatchAll()) {
    return absl::ResourceExhaustedError("no descriptor left to accept connections with");
  }
  acceptor->thread_.emplace("acceptor", [self = acceptor.get()] { self->loop_->Run(); });
  return acceptor;
}

Acceptor::Acceptor(const Clock* clock, std::unique_ptr<EventLoop> loop,
                   std::vector<Listener> listeners)
    : clock_(clock),
      loop_(std::move(loop)),
      listeners_(std::move(listeners)),
      reserve_(OpenReserve()) {}

Acceptor::~Acceptor() { loop_->Stop(); }

bool Acceptor::WatchAll() {
  for (const Listener& listener : listeners_) {
    const auto watch = loop_->Watch(listener.socket.get(), EPOLLIN,
                                    [this, &listener](uint32_t) { AcceptSome(listener); });
    if (!watch.ok()) return false;
    watches_.push_back(*watch);
  }
  return true;
}

void Acceptor::UnwatchAll() {
  for (const WatchId watch : watches_) loop_->Unwatch(watch);
  watches_.clear();
}

void Acceptor::Pause() {
  UnwatchAll();
  loop_->PostAt(clock_->Now() + kPause, [this] {
    if (!reserve_.valid()) reserve_ = OpenReserve();
    if (!WatchAll()) Pause();
  });
}

void Acceptor::AcceptSome(const Listener& listener) {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    UniqueFd connection = AcceptOne(listener.socket.get());
    if (connection.valid()) {
      listener.accepted(std::move(connection));
      continue;
    }
    const int error = errno;
    if (error == EAGAIN) return;
    if (error == EINTR || error == ECONNABORTED) continue;
    if (error == EMFILE || error == ENFILE) {
      const TurnedAway result = TurnAway(listener);
      if (result == TurnedAway::kOne) continue;
      if (result == TurnedAway::kNobody) return;
    }
    if (clock_->Now() - last_logged_ >= kLogPeriod) {
      last_logged_ = clock_->Now();
      LogWarning("accept.paused socket={} error={}", listener.name, Quoted(std::strerror(error)));
    }
    Pause();
    return;
  }
}

Acceptor::TurnedAway Acceptor::TurnAway(const Listener& listener) {
  if (!reserve_.valid()) return TurnedAway::kFailed;
  reserve_.Reset();
  UniqueFd connection = AcceptOne(listener.socket.get());
  const int error = errno;
  const bool accepted = connection.valid();
  const uint64_t count = turned_away_.fetch_add(accepted ? 1 : 0) + 1;
  connection.Reset();
  reserve_ = OpenReserve();
  // Without a descriptor accept4 does not even look whether somebody waits; with one it does.
  if (!accepted) return error == EAGAIN ? TurnedAway::kNobody : TurnedAway::kFailed;
  if (clock_->Now() - last_logged_ >= kLogPeriod) {
    last_logged_ = clock_->Now();
    LogWarning("accept.refused socket={} reason=\"no descriptor left: raise ulimit -n\" total={}",
               listener.name, count);
  }
  return TurnedAway::kOne;
}

}  // namespace tutti
