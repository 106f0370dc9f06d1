#include "client/cpp/testing/fake_daemon.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "base/check.h"
#include "base/socket_paths.h"
#include "proto/convert.h"
#include "proto/grpc_status.h"
#include "shm/arena.h"
#include "shm/packet.h"

namespace tutti {
namespace {

constexpr std::chrono::seconds kEventTimeout(10);

std::string MakeDir() {
  // A blank and a per cent sign: gRPC's targets are URIs.
  std::string path = "/tmp/fake 100%tutti-XXXXXX";
  TUTTI_CHECK(mkdtemp(path.data()) != nullptr);
  return path;
}

}  // namespace

FakeDaemon::FakeDaemon(Script script)
    : script_(std::move(script)), dir_(MakeDir()), stop_(eventfd(0, EFD_CLOEXEC)) {
  auto listening = ListenPacketSocket(SessionSocketPath(dir_), 0600);
  TUTTI_CHECK(listening.ok());
  listening_ = *std::move(listening);
  grpc::ServerBuilder builder;
  builder.AddListeningPort(GrpcTarget(ClientSocketPath(dir_)), grpc::InsecureServerCredentials());
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  TUTTI_CHECK(server_ != nullptr);
  thread_.emplace("fake-daemon", [this] { ServeSessions(); });
}

FakeDaemon::~FakeDaemon() {
  eventfd_write(stop_.get(), 1);
  thread_.reset();
  server_->Shutdown(gpr_time_0(GPR_CLOCK_REALTIME));
  // All handlers have returned, which ThreadSanitizer can only see by the lock they held last.
  const std::lock_guard lock(mutex_);
  std::filesystem::remove_all(dir_);
}

void FakeDaemon::Release() {
  const std::lock_guard lock(mutex_);
  for (const v1::Work& work : held_) Complete(work, true);
  held_.clear();
  Flush();
}

void FakeDaemon::HangUp() {
  const std::lock_guard lock(mutex_);
  if (session_ >= 0) shutdown(session_, SHUT_RDWR);
}

void FakeDaemon::Await(const std::function<bool()>& event) {
  std::unique_lock lock(mutex_);
  TUTTI_CHECK(changed_.wait_until(lock, std::chrono::steady_clock::now() + kEventTimeout, event));
}

void FakeDaemon::AwaitReceived(uint64_t number) {
  Await([&] { return !received_.empty() && received_.back().number() >= number; });
}

void FakeDaemon::AwaitSessionEnd() {
  Await([this] { return sessions_ended_ > 0; });
}

std::vector<v1::Work> FakeDaemon::received() {
  const std::lock_guard lock(mutex_);
  return received_;
}
bool FakeDaemon::said_goodbye() {
  const std::lock_guard lock(mutex_);
  return said_goodbye_;
}
uint64_t FakeDaemon::acknowledged() {
  const std::lock_guard lock(mutex_);
  return acknowledged_;
}
int FakeDaemon::streams() {
  const std::lock_guard lock(mutex_);
  return streams_;
}
uint64_t FakeDaemon::arenas() {
  const std::lock_guard lock(mutex_);
  return living_arenas_;
}
v1::LeaveGroupRequest FakeDaemon::last_leave() {
  const std::lock_guard lock(mutex_);
  return last_leave_;
}
std::string FakeDaemon::no_ring() {
  const std::lock_guard lock(mutex_);
  return no_ring_;
}
v1::Hello FakeDaemon::hello() {
  const std::lock_guard lock(mutex_);
  return hello_;
}
std::byte* FakeDaemon::arena(uint64_t id) {
  const std::lock_guard lock(mutex_);
  const auto it = arenas_.find(id);
  return it == arenas_.end() ? nullptr : it->second.data();
}

std::byte* FakeDaemon::memory(const v1::Span& span) {
  const std::lock_guard lock(mutex_);
  return MemoryLocked(span);
}

std::byte* FakeDaemon::MemoryLocked(const v1::Span& span) const {
  const auto it = arenas_.find(span.arena());
  TUTTI_CHECK(it != arenas_.end());
  TUTTI_CHECK(span.offset() + span.length() <= it->second.size_bytes());
  return it->second.data() + span.offset();
}

grpc::Status FakeDaemon::JoinGroup(grpc::ServerContext* context,
                                   const v1::JoinGroupRequest* request,
                                   v1::JoinGroupResponse* response) {
  if (request->group() == "never") {
    return FinishWith(Failure{.cause = Cause::kDeadline,
                              .message = "rank 1 has not joined",
                              .group = "never",
                              .missing = {1}},
                      context);
  }
  response->set_membership(1);
  response->set_epoch(3);
  response->set_work_timeout_ms(60'000);
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::LeaveGroup(grpc::ServerContext*, const v1::LeaveGroupRequest* request,
                                    v1::LeaveGroupResponse*) {
  const std::lock_guard lock(mutex_);
  last_leave_ = *request;
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::Attach(grpc::ServerContext* context, Stream* stream) {
  if (script_.stream_refusal.has_value()) return FinishWith(*script_.stream_refusal, context);
  v1::AttachRequest request;
  if (!stream->Read(&request) || !request.has_open()) return grpc::Status::CANCELLED;
  {
    const std::lock_guard lock(mutex_);
    ++streams_;
    acknowledged_ = request.open().acknowledged();
    no_ring_ = request.open().no_ring();
    told_ = script_.repeat_all ? 0 : acknowledged_;
    v1::AttachResponse response;
    response.mutable_opened()->set_last_received(received_.empty() ? 0 : received_.back().number());
    stream->Write(response);
    stream_ = stream;
    Flush();
  }
  bool alive = true;
  while (alive && stream->Read(&request)) {
    const std::lock_guard lock(mutex_);
    if (request.has_acknowledge()) acknowledged_ = request.acknowledge().through();
    if (request.has_work()) alive = HandleWork(request.work(), stream);
    changed_.notify_all();
  }
  const std::lock_guard lock(mutex_);
  stream_ = nullptr;
  return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the stream broke");
}

bool FakeDaemon::HandleWork(const v1::Work& work, Stream*) {
  const Mind mind = script_.mind ? script_.mind(work) : Mind::kDone;
  if (mind == Mind::kLoseAndBreak) return false;
  received_.push_back(work);
  if (mind == Mind::kHold) {
    held_.push_back(work);
    return true;
  }
  v1::Work told = work;
  if (mind == Mind::kInvent) told.set_number(work.number() + 1000);
  Complete(told, mind != Mind::kFail);
  if (mind == Mind::kFinishAndBreak) return false;
  Flush();
  return true;
}

void FakeDaemon::Complete(const v1::Work& work, bool ok) {
  v1::Completion& completion = completions_.emplace_back();
  completion.set_serial(completions_.size());
  completion.set_number(work.number());
  if (ok) {
    if (script_.execute) {
      script_.execute(work, [this](const v1::Span& span) { return MemoryLocked(span); });
    }
    return;
  }
  *completion.mutable_failure() = ToProto(Failure{.cause = Cause::kRankDied,
                                                  .message = "rank 1 died",
                                                  .group = "g",
                                                  .epoch = 3,
                                                  .culprits = {1},
                                                  .sequence = work.number()});
}

void FakeDaemon::Flush() {
  if (stream_ == nullptr || told_ == completions_.size()) return;
  v1::AttachResponse response;
  for (; told_ < completions_.size(); ++told_) {
    *response.mutable_completions()->add_completions() = completions_[told_];
  }
  stream_->Write(response);
}

void FakeDaemon::ServeSessions() {
  while (true) {
    std::array<pollfd, 2> fds = {{{stop_.get(), POLLIN, 0}, {listening_.get(), POLLIN, 0}}};
    if (poll(fds.data(), fds.size(), -1) > 0 && fds[0].revents != 0) return;
    const UniqueFd socket(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket.valid()) continue;
    {
      const std::lock_guard lock(mutex_);
      session_ = socket.get();
    }
    ServeSession(socket.get());
    const std::lock_guard lock(mutex_);
    session_ = -1;
    ++sessions_ended_;
    changed_.notify_all();
  }
}

void FakeDaemon::ServeSession(int socket) {
  while (true) {
    std::array<pollfd, 2> fds = {{{stop_.get(), POLLIN, 0}, {socket, POLLIN, 0}}};
    if (poll(fds.data(), fds.size(), -1) > 0 && fds[0].revents != 0) return;
    const auto packet = ReceivePacket(socket);
    if (!packet.ok() || !packet->has_value()) return;
    v1::SessionRequest request;
    TUTTI_CHECK(request.ParseFromString((*packet)->bytes));
    if (request.has_goodbye()) {
      const std::lock_guard lock(mutex_);
      said_goodbye_ = true;
      return;
    }
    std::vector<UniqueFd> sent;
    const v1::SessionReply reply = Answer(request, &sent);
    std::vector<int> numbers;
    for (const UniqueFd& fd : sent) numbers.push_back(fd.get());
    if (!SendPacket(socket, reply.SerializeAsString(), numbers).ok()) return;
  }
}

v1::SessionReply FakeDaemon::Answer(const v1::SessionRequest& request, std::vector<UniqueFd>* fds) {
  const std::lock_guard lock(mutex_);
  v1::SessionReply reply;
  reply.set_request_id(request.request_id());
  if (request.has_hello()) {
    hello_ = request.hello();
    if (script_.refusal.has_value()) {
      *reply.mutable_failure() = ToProto(*script_.refusal);
      return reply;
    }
    reply.mutable_welcome()->set_session_id(7);
    reply.mutable_welcome()->set_token("secret");
    reply.mutable_welcome()->set_works_in_flight_max(script_.in_flight_max);
  } else if (request.has_create_arena()) {
    if (living_arenas_ == script_.arenas_max) {
      *reply.mutable_failure() = ToProto(Failure{.cause = Cause::kLimit, .message = "full"});
      return reply;
    }
    ++living_arenas_;
    auto file = CreateArenaFile(request.create_arena().size_bytes());
    fds->push_back(UniqueFd(dup(file->get())));
    arena_files_[++last_arena_] = *std::move(file);
    reply.mutable_arena_created()->set_arena(last_arena_);
  } else if (request.has_arena_mapped()) {
    const uint64_t id = request.arena_mapped().arena();
    const int file = arena_files_[id].get();
    const auto size = static_cast<size_t>(lseek(file, 0, SEEK_END));
    auto mapping = AdoptArena(file, size);
    TUTTI_CHECK(mapping.ok());
    arenas_[id] = *std::move(mapping);
    reply.mutable_arena_ready()->set_arena(id);
  } else if (request.has_release_arena()) {
    --living_arenas_;
    arenas_.erase(request.release_arena().arena());
    reply.mutable_arena_released()->set_arena(request.release_arena().arena());
  } else if (request.has_create_ring()) {
    *reply.mutable_failure() =
        ToProto(Failure{.cause = Cause::kUnsupported, .message = "no rings here"});
  }
  return reply;
}

}  // namespace tutti
