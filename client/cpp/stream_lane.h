// The gRPC lane of a session: one stream on which works go out and completions come in. A stream
// that breaks is replaced; works and completions carry numbers, so nothing is lost or done twice.
//
//   attaching ──Opened──► attached ──stream broke──► attaching ──...──► ended
//
// Ended: the session is over, or the daemon has refused the lane; all works fail then.
//
// Thread-safe. Owned by the connection. Has a thread that reads the stream and attaches again.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "base/failure.h"
#include "base/thread.h"
#include "client/cpp/lane.h"
#include "client/cpp/pending_work.h"
#include "client/cpp/rpc.h"
#include "client/cpp/work_queue.h"
#include "tutti/v1/client.grpc.pb.h"

namespace tutti {
inline namespace client {

class StreamLane final : public Lane {
 public:
  struct Options {
    // Must outlive the lane.
    Rpc* rpc = nullptr;
    // From Welcome: more would break the protocol.
    uint64_t in_flight_max = 0;
    // Why it is not the ring, for people.
    std::string no_ring;
    // The lane has ended: the daemon has refused it for good, or End was called. Runs once, on the
    // lane's thread; must not wait for that.
    std::function<void(const Failure&)> ended;
  };

  // Starts to attach.
  explicit StreamLane(Options options);

  // REQUIRES: as for Join.
  ~StreamLane() override;
  StreamLane(const StreamLane&) = delete;
  StreamLane& operator=(const StreamLane&) = delete;

  // Waits until the daemon has accepted the stream. Fails with what it said, or kDeadline.
  std::optional<Failure> WaitAttached(std::chrono::milliseconds timeout);

  void Submit(const Request& request, std::shared_ptr<PendingWork> pending) override;
  uint64_t last_number() override;
  // Gives a living stream a moment to deliver what the daemon has still said.
  void End(const Failure& reason) override;
  void Join() override { thread_.reset(); }

 private:
  using Stream = grpc::ClientReaderWriter<v1::AttachRequest, v1::AttachResponse>;

  void Run();
  // Attaches one stream and reads it to its end. Returns why the lane must not attach again, if so.
  std::optional<Failure> RunStream();
  std::optional<Failure> OpenStream(Stream* stream, bool* opened);
  std::optional<Failure> TakeCompletions(const v1::Completions& completions);
  void AcknowledgeIfDue();
  // Waits before the next attempt; false if there shall be none.
  bool WaitForNextAttempt(int attempt);
  void FailAll(const Failure& reason);

  const Options options_;
  const uint64_t acknowledge_every_;

  // Held while a work takes its number and is written, so that the stream has them in order. Taken
  // before mutex_.
  std::mutex write_mutex_;
  // Null while not attached. Guarded by write_mutex_.
  Stream* stream_ = nullptr;

  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  WorkQueue queue_;
  int waiting_ = 0;             // for room
  uint64_t submitting_ = 0;     // between taking room and being in the queue
  std::optional<Failure> end_;  // set: nothing more is submitted
  bool attached_ = false;
  bool stopped_ = false;                    // the thread has ended
  grpc::ClientContext* context_ = nullptr;  // of the stream under way

  // Last: everything above must exist while it runs.
  std::optional<Thread> thread_;
};

}  // namespace client
}  // namespace tutti
