#include "daemon/transport/session_socket.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/version.h"
#include "daemon/transport/short_failure.h"
#include "shm/packet.h"

namespace tutti {
namespace {

// Then others get their turn: requests cost microseconds, a session sends a few in its life.
constexpr int kPacketsPerTurn = 16;

// More than a socket's queue holds: what a process sent before it ended is all read.
constexpr int kPacketsAtEnd = 1024;

// A reply is one packet, and a failure not all of it.
constexpr size_t kFailureBytesMax = kPacketBytesMax / 2;

Failure ProtocolFailure(std::string message) {
  return {.cause = Cause::kProtocol, .message = std::move(message)};
}

// A socket that is closed with packets unread resets its peer, which then would not see our last
// reply.
void DiscardQueue(int socket) {
  shutdown(socket, SHUT_RDWR);
  for (int i = 0; i < kPacketsAtEnd; ++i) {
    if (recv(socket, nullptr, 0, MSG_DONTWAIT | MSG_TRUNC) <= 0) return;
  }
}

}  // namespace

SessionSocket::SessionSocket(UniqueFd socket, const SessionServices* services,
                             std::function<void()> closed)
    : services_(services), socket_(std::move(socket)), closed_(std::move(closed)) {}

SessionSocket::~SessionSocket() {
  CallOffHelloDeadline();
  if (socket_watch_ != 0) services_->watcher->Unwatch(socket_watch_);
  if (process_watch_ != 0) services_->watcher->Unwatch(process_watch_);
}

void SessionSocket::Start() {
  absl::StatusOr<PeerProcess> peer = IdentifyPeer(socket_.get());
  if (!peer.ok()) return Close(SessionEnd::kHungUp);
  peer_ = std::move(*peer);
  const bool watched =
      Watch(socket_.get(), &socket_watch_, [this] { OnReadable(kPacketsPerTurn); }) &&
      (!peer_.pidfd.valid() || Watch(peer_.pidfd.get(), &process_watch_, [this] { OnEnded(); }));
  if (!watched) {
    return Refuse({.cause = Cause::kLimit, .message = "the daemon cannot watch more sockets"});
  }
  hello_deadline_ = services_->hellos->Add(services_->clock->Now() + kHelloTimeout, [this] {
    // Closing drops the owner's share.
    const std::shared_ptr<SessionSocket> self = shared_from_this();
    hello_deadline_.reset();
    Refuse(ProtocolFailure(absl::StrCat("no Hello within ", absl::FormatDuration(kHelloTimeout))));
  });
}

void SessionSocket::CallOffHelloDeadline() {
  if (hello_deadline_.has_value()) services_->hellos->Remove(*hello_deadline_);
  hello_deadline_.reset();
}

bool SessionSocket::Watch(int fd, WatchId* watch, std::function<void()> ready) {
  const auto id =
      services_->watcher->Watch(fd, EPOLLIN, [this, ready = std::move(ready)](uint32_t) {
        // Closing drops the owner's share.
        const std::shared_ptr<SessionSocket> self = shared_from_this();
        ready();
      });
  if (!id.ok()) return false;
  *watch = *id;
  return true;
}

void SessionSocket::OnReadable(int packets_max) {
  bool reset = false;
  for (int i = 0; i < packets_max && state_ != State::kClosed; ++i) {
    absl::StatusOr<std::optional<Packet>> packet = ReceivePacket(socket_.get());
    if (!packet.ok()) {
      if (absl::IsUnavailable(packet.status())) return;
      return Refuse(ProtocolFailure(std::string(packet.status().message())));
    }
    if (!packet->has_value()) {
      // A client that ends without having read our last reply resets the connection; the Goodbye it
      // sent before that is still in the queue.
      if (!std::exchange(reset, true)) continue;
      if (Mutated("session_socket.miss_death")) return;
      return Close(SessionEnd::kHungUp);
    }
    v1::SessionRequest request;
    const bool parsed = request.ParseFromString((*packet)->bytes);
    // The planted defect: what a client sends is taken for an invariant of ours.
    TUTTI_CHECK(parsed || !Mutated("session_socket.trust_packets"));
    if (!(*packet)->fds.empty() || !parsed) {
      return Refuse(ProtocolFailure("a packet that is no tutti.v1.SessionRequest"));
    }
    Handle(request);
  }
}

void SessionSocket::OnEnded() {
  // The planted defect: a death that goes unnoticed.
  if (Mutated("session_socket.miss_death")) return;
  OnReadable(kPacketsAtEnd);
  if (state_ != State::kClosed) Close(SessionEnd::kHungUp);
}

void SessionSocket::Handle(const v1::SessionRequest& request) {
  const uint64_t id = request.request_id();
  const bool is_hello = request.request_case() == v1::SessionRequest::kHello;
  if (is_hello != (state_ == State::kAccepted)) {
    return RefuseRequest(
        id, ProtocolFailure(is_hello ? "a second Hello on one socket" : "Hello must come first"));
  }
  v1::SessionReply reply;
  reply.set_request_id(id);
  switch (request.request_case()) {
    case v1::SessionRequest::kHello:
      return HandleHello(id, request.hello());
    case v1::SessionRequest::kCreateArena:
      return HandleCreateArena(id, request.create_arena().size_bytes());
    case v1::SessionRequest::kArenaMapped: {
      const ArenaId arena = request.arena_mapped().arena();
      reply.mutable_arena_ready()->set_arena(arena);
      return services_->core->ArenaMapped(session_, arena, ReplyWhenDone(std::move(reply)));
    }
    case v1::SessionRequest::kReleaseArena: {
      const ArenaId arena = request.release_arena().arena();
      reply.mutable_arena_released()->set_arena(arena);
      return services_->core->ReleaseArena(session_, arena, ReplyWhenDone(std::move(reply)));
    }
    case v1::SessionRequest::kCreateRing:
      return HandleCreateRing(id, request.create_ring());
    case v1::SessionRequest::kGoodbye:
      return Close(SessionEnd::kGoodbye);
    case v1::SessionRequest::REQUEST_NOT_SET:
      return RefuseRequest(id, ProtocolFailure("a request of a kind this daemon does not know"));
  }
}

void SessionSocket::HandleHello(uint64_t request_id, const v1::Hello& hello) {
  if (hello.protocol_version() != kProtocolVersion) {
    return RefuseRequest(request_id, {.cause = Cause::kUnsupported,
                                      .message = absl::StrCat(
                                          "the client speaks protocol ", hello.protocol_version(),
                                          ", this tuttid ", kVersion, " speaks protocol ",
                                          kProtocolVersion, ": install versions that fit")});
  }
  const Result<SessionId> session =
      services_->core->OpenSession({.pid = peer_.pid,
                                    .uid = peer_.uid,
                                    .name_space = hello.namespace_(),
                                    .label = hello.label(),
                                    .client_version = hello.client_version()});
  if (!session.ok()) return RefuseRequest(request_id, session.failure());
  session_ = *session;
  state_ = State::kOpen;
  CallOffHelloDeadline();
  v1::SessionReply reply;
  reply.set_request_id(request_id);
  v1::Welcome* const welcome = reply.mutable_welcome();
  welcome->set_session_id(session_);
  welcome->set_token(services_->tokens->Issue(session_));
  welcome->set_protocol_version(kProtocolVersion);
  welcome->set_daemon_version(kVersion);
  welcome->set_incarnation(services_->incarnation);
  welcome->set_works_in_flight_max(services_->works_in_flight_max);
  welcome->set_join_timeout_ms(services_->join_timeout_ms);
  Reply(reply);
}

void SessionSocket::HandleCreateArena(uint64_t request_id, uint64_t size_bytes) {
  const Result<ArenaOffer> offer = services_->core->CreateArena(session_, size_bytes);
  if (!offer.ok()) return ReplyFailure(request_id, offer.failure());
  v1::SessionReply reply;
  reply.set_request_id(request_id);
  reply.mutable_arena_created()->set_arena(offer->arena);
  Reply(reply, offer->fd);
}

void SessionSocket::HandleCreateRing(uint64_t request_id, const v1::CreateRing& request) {
  const Result<RingLanes::Made> made = services_->rings->Create(session_, request);
  if (!made.ok()) return ReplyFailure(request_id, made.failure());
  v1::SessionReply reply;
  reply.set_request_id(request_id);
  v1::RingCreated* const created = reply.mutable_ring_created();
  created->set_last_received(made->last_received);
  created->set_spin_us(services_->rings->spin_us());
  Reply(reply, made->doorbell.get());
}

DoneCallback SessionSocket::ReplyWhenDone(v1::SessionReply success) {
  return [weak = weak_from_this(),
          success = std::move(success)](const std::optional<Failure>& failure) {
    const std::shared_ptr<SessionSocket> self = weak.lock();
    if (self == nullptr) return;
    if (failure.has_value()) return self->ReplyFailure(success.request_id(), *failure);
    self->Reply(success);
  };
}

void SessionSocket::ReplyFailure(uint64_t request_id, const Failure& failure) {
  v1::SessionReply reply;
  reply.set_request_id(request_id);
  *reply.mutable_failure() = ToShortProto(failure, kFailureBytesMax);
  Reply(reply);
}

void SessionSocket::Reply(const v1::SessionReply& reply, int fd) {
  if (state_ == State::kClosed) return;
  const std::vector<int> fds = fd < 0 ? std::vector<int>() : std::vector<int>{fd};
  const absl::Status sent = SendPacket(socket_.get(), reply.SerializeAsString(), fds);
  if (sent.ok()) return;
  // Either it has hung up: what it sent before that is still to be read. Or it does not read its
  // replies: the loop waits for nobody.
  LogDebug("session.reply_failed session={} error={}", session_,
           Quoted(std::string(sent.message())));
  services_->loop->Post([weak = weak_from_this()] {
    const std::shared_ptr<SessionSocket> self = weak.lock();
    if (self != nullptr) self->OnEnded();
  });
}

void SessionSocket::RefuseRequest(uint64_t request_id, const Failure& failure) {
  if (state_ == State::kClosed) return;
  if (failure.cause != Cause::kDraining) {
    LogWarning("session.refused pid={} uid={} reason={}", peer_.pid, peer_.uid,
               Quoted(failure.message));
  }
  ReplyFailure(request_id, failure);
  Close(SessionEnd::kProtocolError);
}

void SessionSocket::Refuse(const Failure& failure) { RefuseRequest(0, failure); }

void SessionSocket::Close(SessionEnd end) {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  CallOffHelloDeadline();
  services_->watcher->Unwatch(std::exchange(socket_watch_, 0));
  services_->watcher->Unwatch(std::exchange(process_watch_, 0));
  if (session_ != 0) {
    // What it has submitted before it ended counts.
    services_->rings->TakeRest(session_);
    services_->tokens->Revoke(session_);
    services_->core->CloseSession(session_, end);
  }
  DiscardQueue(socket_.get());
  socket_.Reset();
  peer_.pidfd.Reset();
  // Whoever is told may drop its share of this, and with it the function.
  const std::function<void()> closed = std::move(closed_);
  closed();
}

}  // namespace tutti
