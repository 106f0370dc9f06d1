#include "daemon/daemon.h"

#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/log.h"
#include "base/socket_paths.h"
#include "base/version.h"
#include "daemon/config/config.h"
#include "daemon/peer/etcd_seed_store.h"
#include "daemon/peer/tls_credentials.h"
#include "daemon/random.h"
#include "daemon/transport/service_manager.h"
#include "daemon/transport/snapshot_convert.h"

namespace tutti {
namespace {

constexpr size_t kIncarnationBytes = 16;

// How long a restarted seed waits until it has been told of the groups there are: other daemons
// need half a second to find it again.
constexpr absl::Duration kSeedOpensAfter = absl::Seconds(5);

// Sockets beyond the limit of sessions: enough of them to be told of the limit, by the core.
constexpr size_t kSpareSockets = 64;

// For works that run when sessions are closed; they have been aborted.
constexpr absl::Duration kLastWorksTimeout = absl::Seconds(5);
// For answers that are on their way when servers stop.
constexpr absl::Duration kLastCallsTimeout = absl::Seconds(1);

// Owner and group may use the daemon; the owner may also operate it.
constexpr mode_t kClientMode = 0660;
constexpr mode_t kAdminMode = 0600;

sigset_t HandledSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) sigaddset(&signals, signal);
  return signals;
}

std::string HostName() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  return name.data();
}

std::string ServiceManagerSocket() {
  const char* const socket = std::getenv("NOTIFY_SOCKET");
  return socket == nullptr ? "" : socket;
}

}  // namespace

void BlockSignals() {
  const sigset_t signals = HandledSignals();
  TUTTI_CHECK(pthread_sigmask(SIG_BLOCK, &signals, nullptr) == 0);
  TUTTI_CHECK(std::signal(SIGPIPE, SIG_IGN) != SIG_ERR);
}

void RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    LogWarning("limit.unchanged name=nofile error={}", Quoted(std::strerror(errno)));
  }
}

// --- Starting ---

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const v1::DaemonConfig& config,
                                                      SocketDirectory directory) {
  auto clock = std::make_unique<const RealClock>();
  auto loop = EventLoop::Create(clock.get(), "loop");
  if (!loop.ok()) return loop.status();
  std::string incarnation = RandomBytes(kIncarnationBytes);
  auto peers = MakePeers(config, directory, clock.get(), loop->get(), incarnation);
  if (!peers.ok()) return peers.status();
  std::unique_ptr<Daemon> daemon(new Daemon(config, std::move(directory), std::move(clock),
                                            *std::move(loop), std::move(incarnation),
                                            *std::move(peers)));
  if (absl::Status status = daemon->WatchSignals(); !status.ok()) return status;
  if (absl::Status status = daemon->WatchProcess(); !status.ok()) return status;
  if (absl::Status status = daemon->StartServing(); !status.ok()) return status;
  return daemon;
}

Daemon::Daemon(const v1::DaemonConfig& config, SocketDirectory directory,
               std::unique_ptr<const Clock> clock, std::unique_ptr<EventLoop> loop,
               std::string incarnation, Peers peers)
    : config_(config),
      clock_(std::move(clock)),
      started_(clock_->Now()),
      incarnation_(std::move(incarnation)),
      directory_(std::move(directory)),
      loop_(std::move(loop)),
      peers_(std::move(peers)),
      gloo_(""),
      workers_("worker", config.worker_threads()),
      mapper_("mapper", 1),
      reaper_("reaper", 1),
      local_(&workers_, config.worker_threads()),
      core_(ToLimits(config), CoreDependencies()),
      tokens_(&FillRandom),
      rings_(OptionsOfRings()),
      sessions_(ServicesOfSessions(), config.sessions_max() + kSpareSockets),
      client_service_(ServicesOfCalls()),
      admin_service_(ServicesOfOperators(), Facts()) {}

Daemon::~Daemon() = default;

absl::StatusOr<Daemon::Peers> Daemon::MakePeers(const v1::DaemonConfig& config,
                                                const SocketDirectory& directory,
                                                const Clock* clock, EventLoop* loop,
                                                const std::string& incarnation) {
  Peers peers;
  if (config.peer_address().empty() && config.join().empty()) return peers;
  if (!config.insecure_peers()) {
    auto credentials =
        TlsCredentials::Create({.clock = clock,
                                .directory = config.peer_tls_dir(),
                                .staging_directory = directory.path() + "/peer-tls"});
    if (!credentials.ok()) return credentials.status();
    peers.credentials = *std::move(credentials);
  }
  const auto milliseconds = [](uint64_t count) {
    return absl::Milliseconds(static_cast<int64_t>(count));
  };
  if (!config.etcd().empty()) {
    auto election = EtcdSeedStore::Create(
        {.loop = loop, .endpoints = config.etcd(), .prefix = config.etcd_prefix()});
    if (!election.ok()) return election.status();
    peers.election = *std::move(election);
  }
  // It may have been the seed before it was started again.
  const absl::Duration opens_after =
      directory.used_before() ? kSeedOpensAfter : absl::ZeroDuration();
  auto network = PeerNetworkOverGrpc::Create({.clock = clock,
                                              .loop = loop,
                                              .id = incarnation,
                                              .name = HostName(),
                                              .peer_address = config.peer_address(),
                                              .join = config.join(),
                                              .keepalive = milliseconds(config.peer_keepalive_ms()),
                                              .timeout = milliseconds(config.peer_timeout_ms()),
                                              .seed_opens_after = opens_after,
                                              .election = peers.election.get(),
                                              .credentials = peers.credentials.get()});
  if (!network.ok()) return network.status();
  peers.network = *std::move(network);
  return peers;
}

Dependencies Daemon::CoreDependencies() {
  Dependencies dependencies{.clock = clock_.get(),
                            .loop = loop_.get(),
                            .workers = &workers_,
                            .mapper = &mapper_,
                            .processes = &processes_,
                            .random = &FillRandom,
                            .backends = {&local_}};
  if (peers_.network == nullptr) return dependencies;
  dependencies.backends.push_back(&gloo_);
  dependencies.make_runner = [](const std::string& name) {
    return std::make_unique<WorkerPool>(name, 1);
  };
  dependencies.reaper = &reaper_;
  dependencies.network = peers_.network.get();
  return dependencies;
}

RingLanes::Options Daemon::OptionsOfRings() {
  return {.core = &core_,
          .watcher = loop_.get(),
          .loop = loop_.get(),
          .clock = clock_.get(),
          .works_in_flight_max = config_.works_in_flight_max(),
          .spin_us = config_.ring_spin_us(),
          .end_session = [this](SessionId session, const Failure& failure) {
            sessions_.End(session, failure);
          }};
}

SessionServices Daemon::ServicesOfSessions() {
  return {.core = &core_,
          .loop = loop_.get(),
          .watcher = loop_.get(),
          .clock = clock_.get(),
          .tokens = &tokens_,
          .rings = &rings_,
          .incarnation = incarnation_,
          .works_in_flight_max = config_.works_in_flight_max(),
          .join_timeout_ms = config_.join_timeout_ms()};
}

CallServices Daemon::ServicesOfCalls() {
  return {.core = &core_,
          .loop = loop_.get(),
          .clock = clock_.get(),
          .tokens = &tokens_,
          .end_session = [this](SessionId session, const Failure& failure) {
            sessions_.End(session, failure);
          }};
}

AdminServices Daemon::ServicesOfOperators() {
  AdminServices services{.core = &core_, .clock = clock_.get(), .processes = &processes_};
  services.drain = [this] { loop_->Post([this] { Drain("an operator asked for it"); }); };
  if (peers_.network == nullptr) return services;
  ClusterView* const view = &peers_.network->view();
  services.membership = std::bind_front(&ClusterView::ShowMembership, view);
  services.look_at_cluster = std::bind_front(&ClusterView::Look, view);
  return services;
}

DaemonFacts Daemon::Facts() const {
  DaemonFacts facts{.node = HostName(),
                    .incarnation = incarnation_,
                    .socket_dir = directory_.path(),
                    .backends = {std::string(local_.name())},
                    .missing_backends = {},
                    .started = started_};
  if (peers_.network == nullptr) {
    facts.missing_backends.emplace_back(
        "gloo: this daemon is in no cluster (see --peer_address and --join)");
  } else {
    facts.backends.emplace_back(gloo_.name());
  }
  facts.missing_backends.emplace_back("nccl: not in this version");
  return facts;
}

absl::Status Daemon::StartServing() {
  client_server_ = GrpcServer::Start(&client_service_, "tutti.v1.ClientService");
  admin_server_ = GrpcServer::Start(&admin_service_, "tutti.v1.AdminService");
  if (client_server_ == nullptr || admin_server_ == nullptr) {
    return absl::ResourceExhaustedError("gRPC cannot start a server");
  }
  const std::string& path = directory_.path();
  auto session = directory_.ListenPacket(SessionSocketPath(path), kClientMode);
  if (!session.ok()) return session.status();
  auto client = directory_.ListenStream(ClientSocketPath(path), kClientMode);
  if (!client.ok()) return client.status();
  auto admin = directory_.ListenStream(AdminSocketPath(path), kAdminMode);
  if (!admin.ok()) return admin.status();
  std::vector<Listener> listeners;
  listeners.push_back(
      {"session", std::move(*session), [this](UniqueFd fd) { sessions_.Accept(std::move(fd)); }});
  listeners.push_back({"client", std::move(*client),
                       [this](UniqueFd fd) { client_server_->Serve(std::move(fd)); }});
  listeners.push_back(
      {"admin", std::move(*admin), [this](UniqueFd fd) { admin_server_->Serve(std::move(fd)); }});
  auto acceptor = Acceptor::Start(clock_.get(), std::move(listeners));
  if (!acceptor.ok()) return acceptor.status();
  acceptor_ = std::move(*acceptor);
  if (peers_.network != nullptr) {
    peers_.network->view().SetOwnStatus(
        [this](v1::NodeStatus* status) { admin_service_.ShowSelf(status); });
    if (absl::Status started = peers_.network->Start(core_.peers()); !started.ok()) return started;
    LogInfo("tuttid.cluster port={} join={} encrypted={}", peers_.network->port(),
            Quoted(config_.join()), !config_.insecure_peers());
  }
  LogInfo("tuttid.ready socket_dir={} pid={} version={} backends={}", path, getpid(), kVersion,
          absl::StrJoin(Facts().backends, ","));
  NotifyServiceManager(ServiceManagerSocket(), "READY=1");
  return absl::OkStatus();
}

// --- Signals ---

absl::Status Daemon::WatchSignals() {
  const sigset_t signals = HandledSignals();
  signals_.Reset(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_.valid()) {
    return absl::ResourceExhaustedError(absl::StrCat("signalfd: ", std::strerror(errno)));
  }
  return loop_
      ->Watch(signals_.get(), EPOLLIN,
              [this](uint32_t) {
                signalfd_siginfo info{};
                while (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
                  OnSignal(static_cast<int>(info.ssi_signo));
                }
              })
      .status();
}

absl::Status Daemon::WatchProcess() {
  const uint64_t pid = config_.end_with_process();
  if (pid == 0) return absl::OkStatus();
  process_.Reset(static_cast<int>(syscall(SYS_pidfd_open, static_cast<pid_t>(pid), 0)));
  if (!process_.valid()) {
    return absl::FailedPreconditionError(
        absl::StrCat("end_with_process: process ", pid, ": ", std::strerror(errno)));
  }
  const auto watch = loop_->Watch(process_.get(), EPOLLIN, [this, pid](uint32_t) {
    loop_->Unwatch(*process_watch_);
    Drain(absl::StrCat("process ", pid, " has ended"));
  });
  if (watch.ok()) process_watch_ = *watch;
  return watch.status();
}

void Daemon::OnSignal(int signal) {
  if (signal == SIGUSR1) return Dump();
  if (signal == SIGHUP) {
    LogInfo("tuttid.sighup reason=\"settings are read at the start only\"");
    return;
  }
  const std::string name = signal == SIGINT ? "SIGINT" : "SIGTERM";
  if (signalled_) ExitAtOnce(absl::StrCat("a second signal: ", name));
  signalled_ = true;
  Drain(name);
}

void Daemon::Dump() const {
  const std::shared_ptr<const Snapshot> snapshot = core_.snapshot();
  const SnapshotView view{.snapshot = *snapshot, .now = clock_->Now(), .processes = processes_};
  for (const std::string& line : DescribeSnapshot(view)) LogInfo("dump.{}", line);
}

// --- The end ---

void Daemon::Run() {
  loop_->SetPoller(&rings_);
  loop_->SetSpin(config_.ring_spin_us());
  loop_->Run();
  stopper_.reset();
  // What workers have posted last is let go of while everything that it refers to is there.
  loop_->RunPostedTasks();
  LogInfo("tuttid.stopped");
}

void Daemon::Drain(const std::string& reason) {
  if (stage_ != Stage::kServing) return;
  stage_ = Stage::kDraining;
  const absl::Duration timeout =
      absl::Milliseconds(static_cast<int64_t>(config_.drain_timeout_ms()));
  LogInfo("tuttid.draining reason={} timeout={}", Quoted(reason), absl::FormatDuration(timeout));
  NotifyServiceManager(ServiceManagerSocket(), "STOPPING=1");
  client_server_->SetServing(false);
  admin_server_->SetServing(false);
  core_.Drain([this] { CloseSessions(); });
  loop_->PostAt(clock_->Now() + timeout, [this] { CloseSessions(); });
}

void Daemon::CloseSessions() {
  if (stage_ != Stage::kDraining) return;
  stage_ = Stage::kClosing;
  core_.CloseAllSessions();
  sessions_.EndAll({.cause = Cause::kDraining, .message = "the daemon has ended"});
  // Memory is unmapped, and threads end, only after every communicator has left Run.
  core_.Drain([this] { StopServing(); });
  loop_->PostAt(clock_->Now() + kLastWorksTimeout, [this] {
    if (stage_ == Stage::kClosing) ExitAtOnce("works did not end");
  });
}

void Daemon::StopServing() {
  if (stage_ != Stage::kClosing) return;
  stage_ = Stage::kStopping;
  acceptor_.reset();
  stopper_.emplace("stopper", [this] {
    if (peers_.network != nullptr) peers_.network->view().Cancel();
    client_server_->Shutdown(kLastCallsTimeout);
    admin_server_->Shutdown(kLastCallsTimeout);
    if (peers_.network != nullptr) peers_.network->Shutdown(kLastCallsTimeout);
    loop_->Stop();
  });
}

void Daemon::ExitAtOnce(const std::string& reason) {
  LogWarning("tuttid.exit reason={}", Quoted(reason));
  directory_.RemoveSockets();
  std::_Exit(EXIT_SUCCESS);
}

}  // namespace tutti
