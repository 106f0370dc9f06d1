#include "client/cpp/connection.h"

#include <errno.h>

#include <chrono>
#include <cstdlib>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/socket_paths.h"
#include "base/version.h"
#include "client/cpp/fork.h"
#include "client/cpp/ring_lane.h"
#include "client/cpp/ring_setup.h"
#include "client/cpp/stream_lane.h"
#include "shm/arena.h"

namespace tutti {
inline namespace client {
namespace {

// Of what the daemon answers from memory. Long: on a busy machine everything is late, and nothing
// is gained by giving up early.
constexpr std::chrono::seconds kReplyTimeout(10);

// The daemon maps arenas at 85 ms per GiB, one after the other.
constexpr std::chrono::seconds kArenaTimeout(60);

// What Open.no_ring may have.
constexpr size_t kNoRingBytesMax = 256;

constexpr absl::Duration kLeaveTimeout = absl::Seconds(10);

std::string NameSpaceOf(const ClientOptions& options) {
  if (!options.name_space.empty()) return options.name_space;
  const char* const from_environment = std::getenv("TUTTI_NAMESPACE");
  return from_environment == nullptr ? "" : from_environment;
}

std::string LaneOf(const ClientOptions& options) {
  if (!options.lane.empty()) return options.lane;
  const char* const from_environment = std::getenv("TUTTI_LANE");
  return from_environment == nullptr || *from_environment == '\0' ? "auto" : from_environment;
}

Failure FailureOf(const absl::Status& status) {
  Cause cause = Cause::kNodeLost;
  if (absl::IsResourceExhausted(status)) cause = Cause::kLimit;
  if (absl::IsInvalidArgument(status)) cause = Cause::kInvalid;
  return Failure{.cause = cause, .message = std::string(status.message())};
}

}  // namespace

absl::StatusOr<std::shared_ptr<Connection>> Connection::Open(const ClientOptions& options) {
  absl::StatusOr<std::string> socket_dir = ResolveSocketDir(options.socket_dir);
  if (!socket_dir.ok()) return socket_dir.status();
  auto connection = std::shared_ptr<Connection>(new Connection(*std::move(socket_dir)));
  auto socket =
      SessionSocket::Connect(SessionSocketPath(connection->socket_dir_),
                             [raw = connection.get()](const Failure& reason) { raw->End(reason); });
  if (!socket.ok()) return socket.status();
  connection->socket_ = *std::move(socket);
  if (const std::optional<Failure> failure = connection->Start(options)) {
    return failure->ToStatus();
  }
  return connection;
}

Connection::Connection(std::string socket_dir)
    : socket_dir_(std::move(socket_dir)),
      fork_count_(ForkCount()),
      pool_(std::make_shared<ArenaPool>(static_cast<ArenaSource*>(this))) {}

Connection::~Connection() { Close(); }

std::optional<Failure> Connection::Start(const ClientOptions& options) {
  v1::SessionRequest request;
  v1::Hello* const hello = request.mutable_hello();
  hello->set_protocol_version(kProtocolVersion);
  hello->set_client_version(absl::StrCat("tutti-cpp ", kVersion));
  hello->set_namespace_(NameSpaceOf(options));
  hello->set_label(options.label.empty() ? program_invocation_short_name : options.label);
  Result<SessionSocket::Reply> reply = socket_->Call(std::move(request), kReplyTimeout);
  if (!reply.ok()) return reply.failure();
  const v1::Welcome& welcome = reply->message.welcome();
  session_id_ = welcome.session_id();
  join_timeout_ = absl::Milliseconds(static_cast<int64_t>(welcome.join_timeout_ms()));
  rpc_ = std::make_unique<Rpc>(MakeChannel(ClientSocketPath(socket_dir_)), welcome.token());
  return StartLane(LaneOf(options), welcome);
}

std::optional<Failure> Connection::StartLane(const std::string& choice,
                                             const v1::Welcome& welcome) {
  if (choice != "auto" && choice != "ring" && choice != "grpc") {
    return Failure{.cause = Cause::kInvalid,
                   .message = absl::StrCat("there is no lane '", choice,
                                           "': TUTTI_LANE is auto, ring or grpc")};
  }
  if (choice == "grpc") return StartStream(welcome, "TUTTI_LANE=grpc");
  const std::optional<Failure> failure = StartRing(welcome);
  if (!failure.has_value()) return std::nullopt;
  {
    const MutexLock lock(&mutex_);
    if (end_.has_value()) return failure;
  }
  if (choice == "ring") {
    return Failure{.cause = failure->cause,
                   .message = absl::StrCat("the ring can't be had: ", failure->message,
                                           " (TUTTI_LANE=auto falls back to gRPC)")};
  }
  return StartStream(welcome, failure->message.substr(0, kNoRingBytesMax));
}

std::optional<Failure> Connection::StartRing(const v1::Welcome& welcome) {
  Result<RingLane::Options> ring = MakeRing(this, socket_.get(), welcome.works_in_flight_max());
  if (!ring.ok()) return ring.failure();
  ring->pool = pool_;
  ring->broken = [this](const Failure& reason) { End(reason); };
  return SetLane(std::make_shared<RingLane>(std::move(*ring)));
}

std::optional<Failure> Connection::StartStream(const v1::Welcome& welcome,
                                               const std::string& no_ring) {
  const auto lane = std::make_shared<StreamLane>(
      StreamLane::Options{.rpc = rpc_.get(),
                          .in_flight_max = welcome.works_in_flight_max(),
                          .no_ring = no_ring,
                          .ended = [this](const Failure& reason) { End(reason); }});
  if (std::optional<Failure> lost = SetLane(lane)) return lost;
  return lane->WaitAttached(kReplyTimeout);
}

std::optional<Failure> Connection::SetLane(std::shared_ptr<Lane> lane) {
  lane_ = std::move(lane);
  // The socket may have hung up before there was a lane to tell.
  const MutexLock lock(&mutex_);
  started_ = true;
  return end_;
}

void Connection::Close() {
  {
    const MutexLock lock(&mutex_);
    if (std::exchange(closed_, true)) return;
  }
  if (socket_ != nullptr) socket_->Close();
  End(Failure{.cause = Cause::kSessionClosed, .message = "this client was closed"});
  // The objects stay: other threads may be calling them.
  if (lane_ != nullptr) lane_->Join();
}

std::optional<Failure> Connection::Forked() const { return ForkedSince(fork_count_); }

void Connection::End(const Failure& reason) {
  bool started = false;
  {
    const MutexLock lock(&mutex_);
    if (!end_.has_value()) end_ = reason;
    started = started_;
  }
  if (!started) return;
  rpc_->Cancel(reason);
  lane_->End(reason);
  socket_->Abort();
}

Result<Tensor> Connection::NewTensor(DataType dtype, size_t count) {
  if (std::optional<Failure> forked = Forked()) return *std::move(forked);
  if (dtype == DataType::kNone || count > kTensorBytesMax / SizeOf(dtype)) {
    return Failure{.cause = Cause::kInvalid,
                   .message = absl::StrCat("a tensor of ", count, " ", NameOf(dtype))};
  }
  Result<std::shared_ptr<const Block>> block = pool_->Allocate(count * SizeOf(dtype));
  if (!block.ok()) return block.failure();
  std::byte* const bytes = (*block)->data();
  return Tensor(*std::move(block), bytes, dtype, count);
}

bool Connection::Owns(const Tensor& tensor) const {
  return tensor.valid() && tensor.block()->IsOf(pool_.get());
}

Result<v1::JoinGroupResponse> Connection::Join(const v1::JoinGroupRequest& request,
                                               absl::Duration timeout) {
  if (std::optional<Failure> forked = Forked()) return *std::move(forked);
  return rpc_->Join(request, timeout);
}

std::optional<Failure> Connection::Leave(uint64_t membership) {
  if (std::optional<Failure> forked = Forked()) return forked;
  v1::LeaveGroupRequest request;
  request.set_membership(membership);
  // Calls may overtake the lane.
  request.set_after_work(lane_->last_number());
  return rpc_->Leave(request, kLeaveTimeout);
}

void Connection::Submit(const Request& request, std::shared_ptr<PendingWork> pending) {
  if (std::optional<Failure> forked = Forked()) return pending->Complete(std::move(forked));
  lane_->Submit(request, std::move(pending));
}

Result<ArenaSource::Arena> Connection::Make(size_t size_bytes) {
  v1::SessionRequest request;
  request.mutable_create_arena()->set_size_bytes(size_bytes);
  Result<SessionSocket::Reply> created = socket_->Call(std::move(request), kReplyTimeout);
  if (!created.ok()) return created.failure();
  if (created->fds.size() != 1) {
    return Failure{.cause = Cause::kProtocol, .message = "the daemon sent an arena without memory"};
  }
  const uint64_t arena = created->message.arena_created().arena();
  absl::StatusOr<Mapping> mapping = PopulateArena(created->fds[0].get(), size_bytes);
  if (!mapping.ok()) {
    Release(arena);
    return FailureOf(mapping.status());
  }
  v1::SessionRequest mapped;
  mapped.mutable_arena_mapped()->set_arena(arena);
  Result<SessionSocket::Reply> ready = socket_->Call(std::move(mapped), kArenaTimeout);
  if (!ready.ok()) return ready.failure();
  return ArenaSource::Arena{arena, *std::move(mapping)};
}

void Connection::Release(uint64_t arena) {
  v1::SessionRequest request;
  request.mutable_release_arena()->set_arena(arena);
  // Nothing to do about a failure: the session's end releases all.
  static_cast<void>(socket_->Call(std::move(request), kArenaTimeout).ok());
}

}  // namespace client
}  // namespace tutti
