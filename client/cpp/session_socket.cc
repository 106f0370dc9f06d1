#include "client/cpp/session_socket.h"

#include <sys/socket.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/fork.h"
#include "proto/convert.h"
#include "shm/packet.h"

namespace tutti {
inline namespace client {
namespace {

// The daemon closes a socket within milliseconds of Goodbye, unless it is stopped.
constexpr std::chrono::seconds kGoodbyeTimeout(1);

Failure Lost(const std::string& message) {
  return Failure{.cause = Cause::kNodeLost, .message = message};
}

}  // namespace

absl::StatusOr<std::unique_ptr<SessionSocket>> SessionSocket::Connect(
    const std::string& path, std::function<void(const Failure&)> hung_up) {
  absl::StatusOr<UniqueFd> fd = ConnectPacketSocket(path);
  if (!fd.ok()) return fd.status();
  if (!CloseInChildren(fd->get())) {
    return absl::ResourceExhaustedError("this process has 1024 clients already");
  }
  auto made = std::unique_ptr<SessionSocket>(new SessionSocket(*std::move(fd), std::move(hung_up)));
  made->reader_.emplace("tutti-session", [socket = made.get()] { socket->Read(); });
  return made;
}

SessionSocket::SessionSocket(UniqueFd fd, std::function<void(const Failure&)> hung_up)
    : fd_(std::move(fd)), hung_up_(std::move(hung_up)) {}

SessionSocket::~SessionSocket() {
  Close();
  KeepInChildren(fd_.get());
}

Result<SessionSocket::Reply> SessionSocket::Call(v1::SessionRequest request,
                                                 std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  if (end_.has_value()) return *end_;
  if (closing_) return Failure{.cause = Cause::kSessionClosed, .message = "the client is closed"};
  const uint64_t id = ++last_request_id_;
  request.set_request_id(id);
  calls_[id];
  lock.unlock();
  const absl::Status sent = SendPacket(fd_.get(), request.SerializeAsString(), {});
  lock.lock();
  if (sent.ok()) {
    changed_.wait_until(lock, std::chrono::steady_clock::now() + timeout,
                        [&] { return end_.has_value() || calls_[id].has_value(); });
  }
  std::optional<Reply> reply = std::move(calls_.extract(id).mapped());
  if (reply.has_value()) {
    if (reply->message.has_failure()) return FromProto(reply->message.failure());
    return *std::move(reply);
  }
  if (end_.has_value()) return *end_;
  if (absl::IsInvalidArgument(sent)) {
    return Failure{.cause = Cause::kInvalid, .message = std::string(sent.message())};
  }
  if (!sent.ok()) return Lost(absl::StrCat("cannot reach the daemon: ", sent.message()));
  return Failure{.cause = Cause::kDeadline,
                 .message = absl::StrCat("the daemon has not answered within ", timeout.count(),
                                         " ms: it is stopped or overloaded")};
}

void SessionSocket::Close() {
  if (SayGoodbye()) {
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, std::chrono::steady_clock::now() + kGoodbyeTimeout,
                        [this] { return end_.has_value(); });
  }
  Abort();
  reader_.reset();
}

bool SessionSocket::SayGoodbye() {
  v1::SessionRequest goodbye;
  {
    const std::lock_guard lock(mutex_);
    if (closing_ || end_.has_value()) return false;
    closing_ = true;
    goodbye.set_request_id(++last_request_id_);
  }
  goodbye.mutable_goodbye();
  // If it can't be told, the hang-up says enough.
  return SendPacket(fd_.get(), goodbye.SerializeAsString(), {}).ok();
}

void SessionSocket::Abort() { shutdown(fd_.get(), SHUT_RDWR); }

void SessionSocket::Read() {
  std::optional<Failure> told;  // a failure that answers no request: why the daemon hangs up
  while (true) {
    absl::StatusOr<std::optional<Packet>> packet = ReceivePacket(fd_.get());
    if (!packet.ok() || !packet->has_value()) break;
    Reply reply;
    if (!reply.message.ParseFromString((*packet)->bytes)) {
      told = Failure{.cause = Cause::kProtocol, .message = "the daemon sent a malformed packet"};
      break;
    }
    reply.fds = std::move((*packet)->fds);
    if (reply.message.request_id() == 0 && reply.message.has_failure()) {
      told = FromProto(reply.message.failure());
      continue;
    }
    const std::lock_guard lock(mutex_);
    const auto call = calls_.find(reply.message.request_id());
    // Whoever asked may have gone after its timeout.
    if (call != calls_.end()) call->second = std::move(reply);
    changed_.notify_all();
  }
  const Failure reason = told.value_or(
      Lost("the session with the daemon has ended: the daemon died, or closed it; connect again"));
  if (End(reason)) hung_up_(reason);
}

bool SessionSocket::End(const Failure& reason) {
  const std::lock_guard lock(mutex_);
  end_ = closing_ ? Failure{.cause = Cause::kSessionClosed, .message = "the client is closed"}
                  : reason;
  changed_.notify_all();
  return !closing_;
}

}  // namespace client
}  // namespace tutti
