// The client's gRPC channel, and its unary calls.
//
// Thread-safe. Owned by the connection.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>
#include <set>
#include <string>

#include "absl/time/time.h"
#include "base/failure.h"
#include "base/mutex.h"
#include "base/result.h"
#include "tutti/v1/client.grpc.pb.h"

namespace tutti {
inline namespace client {

// A channel of its own, which no other client of this process shares. Connects at the first call.
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& socket_path);

class Rpc {
 public:
  // `token` is the session's secret.
  Rpc(const std::shared_ptr<grpc::Channel>& channel, std::string token);

  v1::ClientService::Stub* stub() { return stub_.get(); }
  const std::string& token() const { return token_; }

  // Waits for the group, at most `timeout`.
  Result<v1::JoinGroupResponse> Join(const v1::JoinGroupRequest& request, absl::Duration timeout);

  std::optional<Failure> Leave(const v1::LeaveGroupRequest& request, absl::Duration timeout);

  // The session is over: calls under way and later ones fail with `reason`.
  void Cancel(const Failure& reason);

 private:
  // Runs `call` with a context that Cancel reaches.
  template <typename Call>
  std::optional<Failure> Run(absl::Duration timeout, const Call& call);

  const std::unique_ptr<v1::ClientService::Stub> stub_;
  const std::string token_;
  Mutex mutex_;
  std::set<grpc::ClientContext*> calls_ ABSL_GUARDED_BY(mutex_);
  std::optional<Failure> cancelled_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace client
}  // namespace tutti
