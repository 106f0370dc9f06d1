// A core on a real loop, behind a real gRPC server on a socket pair: for tests of the services.
//
// The test's thread is the client; the loop has its own.
#pragma once

#include <grpcpp/create_channel_posix.h>
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "backends/testing/fake_backend.h"
#include "base/check.h"
#include "base/mutex.h"
#include "base/thread.h"
#include "base/worker_pool.h"
#include "daemon/core/testing/core_fixture.h"
#include "daemon/transport/client_service.h"
#include "daemon/transport/event_loop.h"
#include "daemon/transport/grpc_server.h"
#include "daemon/transport/token_table.h"
#include "proto/grpc_status.h"

namespace tutti {

// Waits for a thing that another thread does once.
class Event {
 public:
  void Set() {
    MutexLock lock(&mutex_);
    set_ = true;
    changed_.SignalAll();
  }
  void Wait() {
    MutexLock lock(&mutex_);
    while (!set_) changed_.Wait(&mutex_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool set_ ABSL_GUARDED_BY(mutex_) = false;
};

class ServedCore {
 public:
  // Runs `what` on the loop and returns what it returns.
  template <typename What>
  auto OnLoop(What what) {
    using Value = decltype(what());
    Event done;
    if constexpr (std::is_void_v<Value>) {
      loop->Post([&] {
        what();
        done.Set();
      });
      done.Wait();
    } else {
      std::optional<Value> value;
      loop->Post([&] {
        value.emplace(what());
        done.Set();
      });
      done.Wait();
      return *std::move(value);
    }
  }

  explicit ServedCore(Limits limits = SmallLimits()) {
    core = std::make_unique<Core>(
        limits,
        Dependencies{.clock = &clock,
                     .loop = loop.get(),
                     .workers = &workers,
                     .mapper = &workers,
                     .processes = &processes,
                     .random = [n = uint8_t{0}](void* bytes,
                                                size_t size) mutable { memset(bytes, ++n, size); },
                     .backends = {&backend}});
    service = std::make_unique<ClientService>(
        CallServices{.core = core.get(),
                     .loop = loop.get(),
                     .clock = &clock,
                     .tokens = &tokens,
                     .end_session = [this](SessionId session, const Failure& failure) {
                       ended.emplace_back(session, failure);
                       core->CloseSession(session, SessionEnd::kProtocolError);
                     }});
    server = GrpcServer::Start(service.get(), "tutti.v1.ClientService");
    thread.emplace("loop", [this] { loop->Run(); });
  }

  ~ServedCore() {
    if (server != nullptr) {
      OnLoop([this] { core->CloseAllSessions(); });
      server->Shutdown(absl::Seconds(2));
    }
    loop->Stop();
    thread.reset();
    core.reset();
  }

  // Everything runs on the loop, so that the fakes need no locks.
  static Limits SmallLimits() {
    Limits limits = TestLimits();
    limits.inline_bytes_max = 1 << 20;
    return limits;
  }

  // A session and its token.
  struct Seat {
    SessionId session = 0;
    std::string token;
  };
  Seat OpenSession() {
    return OnLoop([this] {
      const Result<SessionId> session = core->OpenSession({});
      TUTTI_CHECK(session.ok());
      return Seat{*session, tokens.Issue(*session)};
    });
  }

  // A connection of its own.
  std::unique_ptr<v1::ClientService::Stub> Connect(const grpc::ChannelArguments& arguments = {}) {
    std::array<int, 2> ends{};
    TUTTI_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) ==
                0);
    server->Serve(UniqueFd(ends[0]));
    return v1::ClientService::NewStub(
        grpc::CreateCustomInsecureChannelFromFd("test", ends[1], arguments));
  }

  // Sessions that lanes have ended, in order. Of the loop.
  std::vector<std::pair<SessionId, Failure>> ended;

  RealClock clock;
  FakeProcesses processes;
  FakeScript script;
  FakeBackend backend{&script};
  std::unique_ptr<EventLoop> loop = *EventLoop::Create(&clock, "served_loop");
  WorkerPool workers{"worker", 1};
  std::unique_ptr<Core> core;
  uint8_t drawn = 0;
  TokenTable tokens{[this](void* bytes, size_t size) { memset(bytes, ++drawn, size); }};
  std::unique_ptr<ClientService> service;
  std::unique_ptr<GrpcServer> server;
  std::optional<Thread> thread;
};

}  // namespace tutti
