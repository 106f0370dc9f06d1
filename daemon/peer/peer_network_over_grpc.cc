#include "daemon/peer/peer_network_over_grpc.h"

#include <functional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mutex.h"
#include "daemon/peer/elected_seed.h"
#include "daemon/peer/seed_search.h"

namespace tutti {
namespace {

std::string AdvertisedAddress(const HostPort& address, uint16_t port) {
  if (IsWildcard(address.host)) return "";
  return FormatHostPort({.host = address.host, .port = port});
}

}  // namespace

absl::StatusOr<std::unique_ptr<PeerNetworkOverGrpc>> PeerNetworkOverGrpc::Create(Options options) {
  TUTTI_CHECK(options.id.size() == 16);
  HostPort address;
  if (!options.peer_address.empty()) {
    const absl::StatusOr<HostPort> parsed = ParseHostPort(options.peer_address);
    if (!parsed.ok()) return parsed.status();
    address = *parsed;
  }
  if (options.join.empty() && IsWildcard(address.host)) {
    return absl::InvalidArgumentError(
        "others must be told at which address they reach this daemon: set peer_address");
  }
  absl::StatusOr<ListeningSocket> listening = ListenTcp(address);
  if (!listening.ok()) return listening.status();
  std::unique_ptr<PeerNetworkOverGrpc> network(
      new PeerNetworkOverGrpc(std::move(options), address, *std::move(listening)));
  if (absl::Status status = network->StartGrpc(); !status.ok()) return status;
  return network;
}

PeerNetworkOverGrpc::PeerNetworkOverGrpc(Options options, HostPort address,
                                         ListeningSocket listening)
    : options_(std::move(options)), port_(listening.port), listening_(std::move(listening.socket)) {
  const absl::Duration patience = options_.keepalive + options_.timeout;
  const NodeInfo self{
      .id = options_.id, .name = options_.name, .address = AdvertisedAddress(address, port_)};
  view_ = std::make_unique<ClusterView>(ClusterView::Options{
      .clock = options_.clock,
      .self = self,
      .join = options_.election == nullptr ? options_.join : options_.election->name(),
      .channel_credentials = ChannelCredentialsOf(options_.credentials)});
  streams_ = GrpcStreams::Create(
      {.clock = options_.clock,
       .loop = options_.loop,
       .listener = this,
       .keepalive = options_.keepalive,
       .timeout = options_.timeout,
       .outbox_bytes_max = options_.outbox_bytes_max,
       .server_credentials = ServerCredentialsOf(options_.credentials),
       .channel_credentials = ChannelCredentialsOf(options_.credentials),
       .admit =
           [credentials = options_.credentials](const grpc::AuthContext& caller) {
             return credentials == nullptr ? grpc::Status::OK : credentials->Admit(caller);
           },
       .answer = [view = view_.get()](
                     const v1::GetNodeRequest& request,
                     v1::GetNodeResponse* answer) { return view->Answer(request, answer); }});
  links_ = std::make_unique<Links>(
      Links::Services{.clock = options_.clock,
                      .loop = options_.loop,
                      .streams = streams_.get(),
                      .up =
                          [this](const NodeInfo& node) {
                            view_->known().LinkIsUp(node);
                            search_->LinkIsUp(node);
                          },
                      .down =
                          [this](const NodeInfo& node, const LinkEnd& why) {
                            view_->known().LinkIsDown(node, why);
                            search_->LinkIsDown(node);
                          }},
      Links::Options{.dial_timeout = patience, .waiting_bytes_max = options_.outbox_bytes_max},
      self);
  search_ = MakeSeedFinder(!self.address.empty());
}

std::unique_ptr<SeedFinder> PeerNetworkOverGrpc::MakeSeedFinder(bool knows_address) {
  const SeedFinder::Services services{.clock = options_.clock,
                                      .loop = options_.loop,
                                      .streams = streams_.get(),
                                      .links = links_.get(),
                                      .seed_is =
                                          [this](const NodeInfo& seed, absl::Duration opens_after) {
                                            view_->known().SelfIs(links_->self());
                                            view_->known().SeedIs(seed);
                                            listener_->SeedIs(seed, opens_after);
                                          },
                                      .looks =
                                          [this](const std::string& why) {
                                            view_->known().LooksForSeed(why);
                                            listener_->NoSeed();
                                          }};
  if (options_.election != nullptr) {
    return std::make_unique<ElectedSeed>(services, options_.election, ElectedSeed::Options{});
  }
  SeedSearch::Options search{.join = options_.join,
                             .ask_timeout = options_.keepalive + options_.timeout,
                             .opens_after = options_.seed_opens_after};
  if (!knows_address) search.port_of_own_address = port_;
  return std::make_unique<SeedSearch>(services, std::move(search));
}

PeerNetworkOverGrpc::~PeerNetworkOverGrpc() {
  // Without Start there are no streams; but gRPC's server wants its end.
  if (listener_ == nullptr && streams_ != nullptr) streams_->Shutdown(absl::ZeroDuration());
}

absl::Status PeerNetworkOverGrpc::StartGrpc() {
  if (streams_ != nullptr) return absl::OkStatus();
  return absl::ResourceExhaustedError("gRPC cannot start the server of other daemons");
}

absl::Status PeerNetworkOverGrpc::Start(PeerListener* listener) {
  listener_ = listener;
  links_->Start(listener);
  std::vector<Listener> listeners;
  listeners.push_back({"peer", std::move(listening_),
                       [this](UniqueFd connection) { streams_->Serve(std::move(connection)); }});
  auto acceptor = Acceptor::Start(options_.clock, std::move(listeners));
  if (!acceptor.ok()) {
    listener_ = nullptr;
    return acceptor.status();
  }
  acceptor_ = *std::move(acceptor);
  LogInfo("peer.listening port={} join={} tls={}", port_, Quoted(options_.join),
          options_.credentials != nullptr);
  options_.loop->Post([this] { search_->Start(); });
  return absl::OkStatus();
}

void PeerNetworkOverGrpc::Say(const NodeInfo& to, PeerMessage message) {
  links_->Say(to, std::move(message));
}

void PeerNetworkOverGrpc::Received(StreamId stream, LinkFrame frame) {
  if (search_->Owns(stream)) return search_->Received(stream, std::move(frame));
  const auto* const hello = std::get_if<Hello>(&frame);
  if (hello != nullptr && hello->expected.empty()) return search_->Introduce(stream, *hello);
  links_->Received(stream, std::move(frame));
}

void PeerNetworkOverGrpc::Broke(StreamId stream, const std::string& why) {
  if (search_->Owns(stream)) return search_->Broke(stream, why);
  links_->Broke(stream, why);
}

void PeerNetworkOverGrpc::Shutdown(absl::Duration patience) {
  acceptor_.reset();
  RunOnLoop([this] {
    search_->Stop();
    links_->Shutdown();
  });
  view_->Shutdown();
  streams_->Shutdown(patience);
}

void PeerNetworkOverGrpc::RunOnLoop(std::function<void()> task) {
  Mutex mutex;
  CondVar changed;
  bool done = false;
  options_.loop->Post([&] {
    task();
    MutexLock lock(&mutex);
    done = true;
    changed.SignalAll();
  });
  MutexLock lock(&mutex);
  while (!done) changed.Wait(&mutex);
}

}  // namespace tutti
