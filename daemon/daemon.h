// The composition root: makes every part, hands each what it needs, and takes them down in order.
//
// Made, run and destroyed on one thread, main's: it becomes the control loop. The order of the
// members is the order of starting; what is below may use what is above, and ends first.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/gloo/gloo_backend.h"
#include "backends/local/local_backend.h"
#include "base/clock.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "base/worker_pool.h"
#include "daemon/core/core.h"
#include "daemon/core/process.h"
#include "daemon/peer/credentials.h"
#include "daemon/peer/peer_network_over_grpc.h"
#include "daemon/transport/acceptor.h"
#include "daemon/transport/admin_service.h"
#include "daemon/transport/client_service.h"
#include "daemon/transport/event_loop.h"
#include "daemon/transport/grpc_server.h"
#include "daemon/transport/ring_lanes.h"
#include "daemon/transport/session_sockets.h"
#include "daemon/transport/socket_directory.h"
#include "daemon/transport/token_table.h"
#include "tutti/v1/config.pb.h"

namespace tutti {

// Keeps the signals that Daemon handles from every thread made after this: main's first line.
void BlockSignals();

// As many descriptors as we may have: three per session (its socket, process and doorbell), and the
// default of 1024 is soon gone.
void RaiseFileLimit();

class Daemon {
 public:
  // Starts serving in `directory`. Fails with kResourceExhausted, and as SocketDirectory::Listen*.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const v1::DaemonConfig& config,
                                                       SocketDirectory directory);
  ~Daemon();

  // Serves until a signal, or an operator, has drained it. A second signal ends the process at
  // once.
  void Run();

 private:
  // Where other daemons are; empty for a node of its own.
  struct Peers {
    std::unique_ptr<PeerCredentials> credentials;  // null: neither encrypted nor authenticated
    std::unique_ptr<SeedStore> election;           // null: there is none
    std::unique_ptr<PeerNetworkOverGrpc> network;
  };
  static absl::StatusOr<Peers> MakePeers(const v1::DaemonConfig& config,
                                         const SocketDirectory& directory, const Clock* clock,
                                         EventLoop* loop, const std::string& incarnation);

  Daemon(const v1::DaemonConfig& config, SocketDirectory directory,
         std::unique_ptr<const Clock> clock, std::unique_ptr<EventLoop> loop,
         std::string incarnation, Peers peers);

  absl::Status StartServing();
  absl::Status WatchSignals();
  absl::Status WatchProcess();
  Dependencies CoreDependencies();
  RingLanes::Options OptionsOfRings();
  SessionServices ServicesOfSessions();
  CallServices ServicesOfCalls();
  AdminServices ServicesOfOperators();
  DaemonFacts Facts() const;

  void OnSignal(int signal);
  void Dump() const;

  // The end, step by step. Each is taken once.
  void Drain(const std::string& reason);
  void CloseSessions();
  void StopServing();
  [[noreturn]] void ExitAtOnce(const std::string& reason);

  const v1::DaemonConfig config_;
  const std::unique_ptr<const Clock> clock_;
  const ProcProcessProbe processes_;
  const MonotonicTime started_;
  const std::string incarnation_;
  SocketDirectory directory_;
  const std::unique_ptr<EventLoop> loop_;
  const Peers peers_;
  // Outlives what the mapper still holds of it.
  GlooBackend gloo_;
  WorkerPool workers_;
  // One thread: mapping is bound by the memory, and the kernel's lock.
  WorkerPool mapper_;
  WorkerPool reaper_;  // of groups over several nodes
  LocalBackend local_;
  Core core_;
  TokenTable tokens_;
  RingLanes rings_;
  SessionSockets sessions_;
  ClientService client_service_;
  AdminService admin_service_;
  std::unique_ptr<GrpcServer> client_server_;
  std::unique_ptr<GrpcServer> admin_server_;
  std::unique_ptr<Acceptor> acceptor_;
  UniqueFd signals_;
  // Of end_with_process.
  UniqueFd process_;
  std::optional<WatchId> process_watch_;

  enum class Stage { kServing, kDraining, kClosing, kStopping };
  Stage stage_ = Stage::kServing;
  bool signalled_ = false;
  // Ends calls while the loop, on which they end, goes on.
  std::optional<Thread> stopper_;
};

}  // namespace tutti
