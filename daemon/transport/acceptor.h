// Accepts connections on a thread of its own, so that status answers while the control loop is
// blocked, and hands them on.
//
// gRPC's own listener is not used: after one EMFILE it never accepts again, and it steals or
// deletes the path of a live daemon's socket (notes/reliability.md, G-1 to G-3).
//
// Made and destroyed on one thread. The listeners' callbacks run on the acceptor's thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "daemon/transport/event_loop.h"

namespace tutti {

// A listening, non-blocking socket, and who gets its connections (non-blocking, close-on-exec).
struct Listener {
  std::string name;  // for the log
  UniqueFd socket;
  // Must not block.
  std::function<void(UniqueFd connection)> accepted;
};

class Acceptor {
 public:
  // Starts accepting. Fails with kResourceExhausted.
  static absl::StatusOr<std::unique_ptr<Acceptor>> Start(const Clock* clock,
                                                         std::vector<Listener> listeners);
  // Closes the listening sockets; no callback runs any more.
  ~Acceptor();

  // Connections that were closed at once because no descriptor was left. From any thread.
  uint64_t turned_away() const { return turned_away_.load(); }

 private:
  Acceptor(const Clock* clock, std::unique_ptr<EventLoop> loop, std::vector<Listener> listeners);

  bool WatchAll();
  void UnwatchAll();
  void Pause();
  void AcceptSome(const Listener& listener);
  // Accepts one connection and closes it, where no descriptor is left to keep it.
  enum class TurnedAway { kOne, kNobody, kFailed };
  TurnedAway TurnAway(const Listener& listener);

  const Clock* const clock_;
  const std::unique_ptr<EventLoop> loop_;
  const std::vector<Listener> listeners_;
  std::vector<WatchId> watches_;
  // Kept open for the moment when no other descriptor is left: closing it makes room to accept a
  // connection and close it, so that its client learns that it is refused.
  UniqueFd reserve_;
  MonotonicTime last_logged_ = absl::InfinitePast();
  std::atomic<uint64_t> turned_away_{0};
  // Last: it ends before what it uses.
  std::optional<Thread> thread_;
};

}  // namespace tutti
