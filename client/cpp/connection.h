// What a Client and its groups share: the session, its lane, and its memory.
//
// Thread-safe. Shared by the client and its groups; the client closes it. Works and tensors do not
// keep it alive.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "base/failure.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/types.h"
#include "client/cpp/arena_pool.h"
#include "client/cpp/client.h"
#include "client/cpp/lane.h"
#include "client/cpp/pending_work.h"
#include "client/cpp/rpc.h"
#include "client/cpp/session_socket.h"
#include "client/cpp/tensor.h"
#include "tutti/v1/client.pb.h"

namespace tutti {
inline namespace client {

// What PopulateArena maps, and what the daemon insists on.
inline constexpr size_t kTensorBytesMax = size_t{1} << 46;

class Connection final : private ArenaSource {
 public:
  // Errors as Client::Connect.
  static absl::StatusOr<std::shared_ptr<Connection>> Open(const ClientOptions& options);

  // Closes it. REQUIRES: not in a forked child (whoever may be in one leaks it there).
  ~Connection() override;

  // Closes the session in good order; everything in flight fails with kSessionClosed. Idempotent.
  void Close();

  // Set if this process is a forked child: nothing here may be touched then.
  std::optional<Failure> Forked() const;

  Result<Tensor> NewTensor(DataType dtype, size_t count);
  // True if `tensor` lives in this session's memory.
  bool Owns(const Tensor& tensor) const;

  Result<v1::JoinGroupResponse> Join(const v1::JoinGroupRequest& request, absl::Duration timeout);
  std::optional<Failure> Leave(uint64_t membership);
  void Submit(const Request& request, std::shared_ptr<PendingWork> pending);

  uint64_t session_id() const { return session_id_; }
  // Of joins that set none; zero if the daemon has not said.
  absl::Duration join_timeout() const { return join_timeout_; }

 private:
  explicit Connection(std::string socket_dir);

  // Says Hello, and starts the rest.
  std::optional<Failure> Start(const ClientOptions& options);
  // Makes the lane that `choice` (ClientOptions::lane) asks for.
  std::optional<Failure> StartLane(const std::string& choice, const v1::Welcome& welcome);
  std::optional<Failure> StartRing(const v1::Welcome& welcome);
  std::optional<Failure> StartStream(const v1::Welcome& welcome, const std::string& no_ring);
  // Sets lane_, unless the session has ended meanwhile.
  std::optional<Failure> SetLane(std::shared_ptr<Lane> lane);
  // The session is over. From the threads of socket and lane, and from Close.
  void End(const Failure& reason);

  Result<ArenaSource::Arena> Make(size_t size_bytes) override;
  void Release(uint64_t arena) override;

  const std::string socket_dir_;
  const uint32_t fork_count_;
  absl::Duration join_timeout_;
  uint64_t session_id_ = 0;

  Mutex mutex_;
  std::optional<Failure> end_ ABSL_GUARDED_BY(mutex_);
  // From then on lane_ and rpc_ do not change.
  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;

  // Shared with its blocks, which find it gone when they outlive the connection.
  std::shared_ptr<ArenaPool> pool_;
  std::unique_ptr<SessionSocket> socket_;
  std::unique_ptr<Rpc> rpc_;
  // Shared with its works.
  std::shared_ptr<Lane> lane_;
};

}  // namespace client
}  // namespace tutti
