// A daemon for tests of the client: real sockets in a temporary directory, a scripted mind, and one
// session at a time. It has the gRPC lane only.
//
// Thread-safe. Owned by a test; outlives its clients' calls.
#pragma once

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/failure.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "shm/mapping.h"
#include "tutti/v1/client.grpc.pb.h"
#include "tutti/v1/session.pb.h"

namespace tutti {

class FakeDaemon final : private v1::ClientService::Service {
 public:
  // What happens to a work that arrives.
  enum class Mind {
    kDone,            // completes at once
    kFail,            // completes with kRankDied
    kHold,            // completes when Release is called
    kLoseAndBreak,    // the stream breaks as if the work had never arrived
    kFinishAndBreak,  // it completes, but the stream breaks before that is told
    kInvent,          // completes one that was never submitted
  };

  // Where a span of a work lies in this process.
  using Memory = std::function<std::byte*(const v1::Span&)>;

  struct Script {
    // Asked with each work; null: all are done.
    std::function<Mind(const v1::Work&)> mind;
    // Runs before a work completes well, with the tensors as the daemon sees them, to write
    // results; null: they stay as they are. On a thread of gRPC's: no assertions of a test in it,
    // and no call of this class.
    std::function<void(const v1::Work&, const Memory&)> execute;
    // Refuses Hello.
    std::optional<Failure> refusal;
    // Ends every stream for good.
    std::optional<Failure> stream_refusal;
    uint64_t in_flight_max = 16;
    // Tells a new stream even what was acknowledged.
    bool repeat_all = false;
    // Arenas that CreateArena grants.
    uint64_t arenas_max = 100;
  };

  explicit FakeDaemon(Script script);
  ~FakeDaemon() override;

  const std::string& dir() const { return dir_; }

  // Completes what was held.
  void Release();
  // Ends the session, as a dying daemon does.
  void HangUp();

  // Each waits for its event, and CHECKs that it comes within 10 s.
  void AwaitReceived(uint64_t number);
  void AwaitSessionEnd();

  // What happened so far.
  std::vector<v1::Work> received();
  bool said_goodbye();
  uint64_t acknowledged();
  int streams();
  uint64_t arenas();
  v1::LeaveGroupRequest last_leave();
  v1::Hello hello();
  // Why the client is not on the ring, as it says.
  std::string no_ring();
  // The memory of an arena as the daemon sees it; null if it is not ready.
  std::byte* arena(uint64_t id);
  // The same at a span.
  std::byte* memory(const v1::Span& span);

 private:
  using Stream = grpc::ServerReaderWriter<v1::AttachResponse, v1::AttachRequest>;

  grpc::Status JoinGroup(grpc::ServerContext* context, const v1::JoinGroupRequest* request,
                         v1::JoinGroupResponse* response) override;
  grpc::Status LeaveGroup(grpc::ServerContext* context, const v1::LeaveGroupRequest* request,
                          v1::LeaveGroupResponse* response) override;
  grpc::Status Attach(grpc::ServerContext* context, Stream* stream) override;
  // False: the stream shall break.
  bool HandleWork(const v1::Work& work, Stream* stream);
  void Complete(const v1::Work& work, bool ok);
  // REQUIRES: mutex_ is held.
  std::byte* MemoryLocked(const v1::Span& span) const;
  void Flush();

  void ServeSessions();
  void ServeSession(int socket);
  v1::SessionReply Answer(const v1::SessionRequest& request, std::vector<UniqueFd>* fds);
  void Await(const std::function<bool()>& event);

  const Script script_;
  std::string dir_;
  UniqueFd listening_;
  UniqueFd stop_;
  std::unique_ptr<grpc::Server> server_;

  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  Stream* stream_ = nullptr;
  std::vector<v1::Work> received_;
  std::vector<v1::Work> held_;
  std::vector<v1::Completion> completions_;  // all of them, by serial
  uint64_t told_ = 0;                        // on this stream
  uint64_t acknowledged_ = 0;
  int streams_ = 0;
  int session_ = -1;
  int sessions_ended_ = 0;
  bool said_goodbye_ = false;
  v1::Hello hello_;
  std::string no_ring_;
  v1::LeaveGroupRequest last_leave_;
  uint64_t last_arena_ = 0;
  uint64_t living_arenas_ = 0;
  std::map<uint64_t, UniqueFd> arena_files_;
  std::map<uint64_t, Mapping> arenas_;

  // Last: the thread uses all of the above.
  std::optional<Thread> thread_;
};

}  // namespace tutti
