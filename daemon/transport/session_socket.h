// One client's session socket: who it is, its token, its arenas; and by its end, the end of the
// session.
//
//   accepted ──Hello──► open ──► closed     Goodbye, hang-up, end of the process, broken protocol
//       └───────────────────────► closed     refused, no Hello in time
//
// Lives on the control loop. Shared by its owner (SessionSockets) and by replies that are still to
// be sent; those find it closed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/deadline_queue.h"
#include "base/failure.h"
#include "base/task_runner.h"
#include "base/unique_fd.h"
#include "daemon/core/core.h"
#include "daemon/core/ids.h"
#include "daemon/transport/fd_watcher.h"
#include "daemon/transport/peer_process.h"
#include "daemon/transport/ring_lanes.h"
#include "daemon/transport/token_table.h"
#include "tutti/v1/session.pb.h"

namespace tutti {

// What session sockets use; all of it outlives them.
struct SessionServices {
  Core* core = nullptr;
  SequencedTaskRunner* loop = nullptr;
  FdWatcher* watcher = nullptr;
  const Clock* clock = nullptr;
  TokenTable* tokens = nullptr;
  RingLanes* rings = nullptr;
  // Of Hellos that have not come; SessionSockets has it.
  DeadlineQueue* hellos = nullptr;
  // 16 random bytes that name this run of the daemon.
  std::string incarnation;
  // What clients are told of the limits.
  uint64_t works_in_flight_max = 0;
  uint64_t join_timeout_ms = 0;
};

// A client that connects says Hello at once; one that does not holds a descriptor for nothing.
inline constexpr absl::Duration kHelloTimeout = absl::Seconds(5);

class SessionSocket : public std::enable_shared_from_this<SessionSocket> {
 public:
  // `socket` does not block. `closed` is called once, as the last thing this does.
  SessionSocket(UniqueFd socket, const SessionServices* services, std::function<void()> closed);
  ~SessionSocket();

  // Identifies the peer and starts to watch. May close at once.
  void Start();

  // Tells the client why, if it still listens, and closes.
  void Refuse(const Failure& failure);

  // 0 before Hello.
  SessionId session() const { return session_; }

 private:
  enum class State { kAccepted, kOpen, kClosed };

  bool Watch(int fd, WatchId* watch, std::function<void()> ready);
  void CallOffHelloDeadline();
  void OnReadable(int packets_max);
  // Reads what the client has sent before it ended, and closes.
  void OnEnded();
  void Handle(const v1::SessionRequest& request);
  void HandleHello(uint64_t request_id, const v1::Hello& hello);
  void HandleCreateArena(uint64_t request_id, uint64_t size_bytes);
  void HandleCreateRing(uint64_t request_id, const v1::CreateRing& request);
  DoneCallback ReplyWhenDone(v1::SessionReply success);
  void ReplyFailure(uint64_t request_id, const Failure& failure);
  void Reply(const v1::SessionReply& reply, int fd = -1);
  void RefuseRequest(uint64_t request_id, const Failure& failure);
  void Close(SessionEnd end);

  const SessionServices* const services_;
  UniqueFd socket_;
  PeerProcess peer_;
  WatchId socket_watch_ = 0;
  WatchId process_watch_ = 0;
  std::optional<DeadlineQueue::Handle> hello_deadline_;
  State state_ = State::kAccepted;
  SessionId session_ = 0;
  std::function<void()> closed_;
};

}  // namespace tutti
