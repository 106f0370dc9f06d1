// All session sockets of the daemon.
//
// Lives on the control loop, but for Accept. Owns the sockets.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "base/deadline_queue.h"
#include "base/failure.h"
#include "base/unique_fd.h"
#include "daemon/core/ids.h"
#include "daemon/transport/session_socket.h"

namespace tutti {

class SessionSockets {
 public:
  // `sockets_max`: more connections than that at once are closed as soon as they are accepted,
  // without the loop, so that a blocked loop does not pile them up.
  SessionSockets(SessionServices services, size_t sockets_max);

  // Takes a connection. From any thread; must not be called when the loop has ended.
  void Accept(UniqueFd connection);

  // The session has ended: tells the client why and closes its socket. Unknown ids are ignored.
  void End(SessionId session, const Failure& failure);

  // The same for all sockets.
  void EndAll(const Failure& failure);

  size_t count() const { return sockets_.size(); }

 private:
  void Adopt(UniqueFd connection);

  // One timer for all of them: one for each would keep a part of every socket for its time.
  DeadlineQueue hellos_;
  const SessionServices services_;
  const size_t sockets_max_;
  // Accepted and not yet closed.
  std::atomic<size_t> open_{0};
  // By a number of their own: a socket has no session before its Hello.
  std::map<uint64_t, std::shared_ptr<SessionSocket>> sockets_;
  uint64_t last_key_ = 0;
};

}  // namespace tutti
