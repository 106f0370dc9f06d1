// The network between daemons over gRPC: links (links.h), the search for the seed (seed_finder.h),
// and the streams that carry them (grpc_streams.h).
//
// For daemons that others reach or that join others; a node of its own has LoopbackNetwork.
//
//   auto network = PeerNetworkOverGrpc::Create({...});   // listens
//   (*network)->Start(&cluster);                         // serves, and looks for the seed
//   ...                                                  // the loop runs
//   (*network)->Shutdown(absl::Seconds(1));              // not on the loop, which runs on
//
// Threads: Create, Start and Shutdown on one thread that is not the loop's while that runs;
// everything else on the control loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/task_runner.h"
#include "daemon/cluster/peers.h"
#include "daemon/peer/cluster_view.h"
#include "daemon/peer/credentials.h"
#include "daemon/peer/grpc_streams.h"
#include "daemon/peer/links.h"
#include "daemon/peer/seed_finder.h"
#include "daemon/peer/seed_store.h"
#include "daemon/peer/tcp.h"
#include "daemon/transport/acceptor.h"

namespace tutti {

// Bytes that wait to be written to one node, at most: the copies of small sends that send_bytes_max
// allows by default (256 MiB), and a quarter of that for everything else.
inline constexpr size_t kOutboxBytesMax = size_t{320} << 20;

class PeerNetworkOverGrpc final : public PeerNetwork, private LinkStreamsListener {
 public:
  struct Options {
    const Clock* clock = nullptr;
    SequencedTaskRunner* loop = nullptr;
    NodeId id;         // 16 random bytes
    std::string name;  // for people
    // The settings of these names; at least one of the two. What peer_address does not say is found
    // out: the port by the kernel, the host by the connection to the join address.
    std::string peer_address;
    std::string join;
    absl::Duration keepalive = absl::Seconds(1);
    absl::Duration timeout = absl::Seconds(4);
    // If this daemon is the seed, as nobody else can be: see PeerListener.
    absl::Duration seed_opens_after;
    // Where the seed is elected; then `join` is empty. Null: it is not. Outlives this.
    SeedStore* election = nullptr;
    // Null: neither encrypted nor authenticated. Outlives this.
    PeerCredentials* credentials = nullptr;
    size_t outbox_bytes_max = kOutboxBytesMax;
  };

  // Listens, but serves nobody yet. What `options` points to must outlive this. Fails with
  // kInvalidArgument (addresses), kUnavailable (cannot listen) and kResourceExhausted (gRPC).
  static absl::StatusOr<std::unique_ptr<PeerNetworkOverGrpc>> Create(Options options);
  // REQUIRES: Shutdown has returned, if Start was called, and no task of the loop runs any more.
  ~PeerNetworkOverGrpc() override;

  // From now on `listener`, which outlives Shutdown, is told everything, on the control loop.
  // Fails with kResourceExhausted.
  absl::Status Start(PeerListener* listener);

  // Ends all links in good order: other daemons learn at once that this one is gone. Streams that
  // do not end within `patience` are cancelled. The listener is told of nothing any more.
  void Shutdown(absl::Duration patience);

  // Its address is empty until the join address has been reached, if no setting says it.
  const NodeInfo& self() const override { return links_->self(); }
  void Say(const NodeInfo& to, PeerMessage message) override;

  // Where it listens.
  uint16_t port() const { return port_; }

  // What people are shown of it.
  ClusterView& view() { return *view_; }

 private:
  PeerNetworkOverGrpc(Options options, HostPort address, ListeningSocket listening);

  absl::Status StartGrpc();
  std::unique_ptr<SeedFinder> MakeSeedFinder(bool knows_address);
  void RunOnLoop(std::function<void()> task);

  void Received(StreamId stream, LinkFrame frame) override;
  void Broke(StreamId stream, const std::string& why) override;

  const Options options_;
  const uint16_t port_;
  UniqueFd listening_;
  PeerListener* listener_ = nullptr;
  std::unique_ptr<ClusterView> view_;
  std::unique_ptr<GrpcStreams> streams_;
  std::unique_ptr<Links> links_;
  std::unique_ptr<SeedFinder> search_;
  std::unique_ptr<Acceptor> acceptor_;
};

}  // namespace tutti
