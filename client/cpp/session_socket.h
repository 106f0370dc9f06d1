// The client's end of the session socket: requests, replies, and the lease.
//
// Thread-safe. Owned by the connection. Has a thread that reads; callbacks run there.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/failure.h"
#include "base/result.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "tutti/v1/session.pb.h"

namespace tutti {
inline namespace client {

class SessionSocket {
 public:
  struct Reply {
    v1::SessionReply message;
    std::vector<UniqueFd> fds;
  };

  // Connects to the socket at `path`. `hung_up` runs once, when the daemon has closed it (not after
  // Close): the session is over. Fails as ConnectPacketSocket does.
  static absl::StatusOr<std::unique_ptr<SessionSocket>> Connect(
      const std::string& path, std::function<void(const Failure&)> hung_up);

  // Closes it. REQUIRES: as for Close.
  ~SessionSocket();
  SessionSocket(const SessionSocket&) = delete;
  SessionSocket& operator=(const SessionSocket&) = delete;

  // Sends the request and waits for its reply. Fails with what the daemon answered, kNodeLost (it
  // has hung up), kDeadline (no answer within `timeout`).
  Result<Reply> Call(v1::SessionRequest request, std::chrono::milliseconds timeout);

  // Says goodbye, and waits a second for the daemon to hang up. Calls fail from now on; no callback
  // runs after this. REQUIRES: not on the reading thread, not in a forked child, not twice at once.
  void Close();

  // Hangs up without a word; `hung_up` runs soon. From any thread.
  void Abort();

 private:
  SessionSocket(UniqueFd fd, std::function<void(const Failure&)> hung_up);
  void Read();
  // True if the daemon was told just now.
  bool SayGoodbye();
  // Ends all calls. True the first time.
  bool End(const Failure& reason);

  const UniqueFd fd_;
  const std::function<void(const Failure&)> hung_up_;

  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  uint64_t last_request_id_ = 0;
  // By request id; without a value while the reply is awaited.
  std::map<uint64_t, std::optional<Reply>> calls_;
  std::optional<Failure> end_;  // set: no more replies
  bool closing_ = false;

  // Last: everything above must exist while it runs.
  std::optional<Thread> reader_;
};

}  // namespace client
}  // namespace tutti
