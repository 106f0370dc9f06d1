// Streams between daemons over gRPC: a server that is handed connections, and a channel for each
// stream that is dialled. Each stream has a connection of its own, so that the end of a link is the
// end of a connection, and no dial waits for the backoff of an earlier one.
//
// A daemon that is silent is noticed by gRPC's keepalive, from both ends of its links.
//
// Threads: LinkStreams on the control loop; Serve from any; Create and Shutdown on one thread that
// is not the loop's.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "daemon/peer/link_stream.h"
#include "daemon/peer/streams.h"

namespace tutti {

class GrpcStreams final : public LinkStreams, private LinkStreamHost {
 public:
  struct Options {
    const Clock* clock = nullptr;
    SequencedTaskRunner* loop = nullptr;
    LinkStreamsListener* listener = nullptr;
    // An idle connection is probed after `keepalive`, and is dead `timeout` later.
    absl::Duration keepalive = absl::Seconds(1);
    absl::Duration timeout = absl::Seconds(4);
    size_t outbox_bytes_max = 0;
    std::shared_ptr<grpc::ServerCredentials> server_credentials;
    std::shared_ptr<grpc::ChannelCredentials> channel_credentials;
    // May who calls, call? Thread-safe.
    std::function<grpc::Status(const grpc::AuthContext& caller)> admit;
    // To a daemon that asks how this one is. On any thread; does not block.
    std::function<grpc::Status(const v1::GetNodeRequest& request, v1::GetNodeResponse* answer)>
        answer;
  };

  // What `options` points to outlives this. Null if gRPC cannot start.
  static std::unique_ptr<GrpcStreams> Create(Options options);
  // REQUIRES: Shutdown has returned, and no task that was posted runs any more.
  ~GrpcStreams() override;

  // Serves a connection, which must not block. REQUIRES: Shutdown has not been called
  void Serve(UniqueFd connection);

  // Returns when all streams are gone: cancels what is left after `patience`. The loop has to run
  // meanwhile.
  void Shutdown(absl::Duration patience);

  StreamId Dial(const std::string& address, const Hello& hello) override;
  void Send(StreamId stream, LinkFrame frame) override;
  void End(StreamId stream, std::optional<LinkEnd> last) override;
  std::string LocalHost(StreamId stream) override;

 private:
  class Service;

  explicit GrpcStreams(Options options);
  bool StartServer();
  grpc::ChannelArguments ChannelArguments() const;
  std::shared_ptr<LinkStream> Take(StreamId stream);

  void Received(const std::shared_ptr<LinkStream>& stream, LinkFrame frame) override;
  void Broke(const std::shared_ptr<LinkStream>& stream, const std::string& why) override;
  void Gone(bool dialled) override;

  const Options options_;
  const LinkStreamServices services_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> connections_;
  std::unique_ptr<grpc::Server> server_;
  std::atomic<StreamId> last_id_{0};

  // Of the control loop: those that may be sent to.
  std::map<StreamId, std::shared_ptr<LinkStream>> streams_;

  Mutex mutex_;
  CondVar one_gone_;
  // Streams that have not been destroyed.
  size_t dialled_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t answered_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tutti
