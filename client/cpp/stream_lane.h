// The gRPC lane of a session: one stream on which works go out and completions come in. A stream
// that breaks is replaced; works and completions carry numbers, so nothing is lost or done twice.
//
//   attaching ──Opened──► attached ──stream broke──► attaching ──...──► ended
//
// Ended: the session is over, or the daemon has refused the lane; all works fail then.
//
// Who waits reads: a verdict then needs no further wake-up.
//
//   one of those who wait is the reader: it takes what comes, and ends those works
//   the others wait for it to end theirs, or to be done itself: then one of them goes on
//   the lane's thread is the reader while nobody waits, or only those who have little time
//
// Thread-safe. Shared by the connection and by the works that were submitted on it. Has a thread,
// which attaches, and attaches again. Nothing of it may be called in a forked child.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
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

class StreamLane final : public Lane,
                         public CompletionSource,
                         public std::enable_shared_from_this<StreamLane> {
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

  void WaitFor(const PendingWork& work, Deadline deadline) override;

 private:
  using Stream = grpc::ClientReaderWriter<v1::AttachRequest, v1::AttachResponse>;

  void Run();
  // Attaches one stream and reads it to its end. Returns why the lane must not attach again, if so.
  std::optional<Failure> RunStream();
  std::optional<Failure> OpenStream(Stream* stream);
  // Waits until `done`, as the reader if it may; false if it was not within the time. `done` is
  // called with mutex_, which `lock` holds.
  bool Drive(std::unique_lock<std::mutex>* lock, absl::FunctionRef<bool()> done, Deadline deadline,
             bool may_read);
  // Wake those who wait: those who are done; all; one who can read, if nobody does. With mutex_.
  void WakeDone();
  void WakeAll();
  void PassOn();
  // What the thread does while there is a stream to read.
  void ReadUnlessOthersDo();
  // One message. REQUIRES: readable_, !reading_; `lock` is of mutex_.
  void ReadOne(std::unique_lock<std::mutex>* lock);
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
  // Of the thread, while others read: they must not wake it for each message.
  std::condition_variable wake_thread_;
  // Guarded by mutex_.
  WorkQueue queue_;
  struct Waiter {
    absl::FunctionRef<bool()> done;
    bool may_read = false;
    std::condition_variable changed;
  };
  std::list<Waiter*> waiters_;
  uint64_t waits_ = 0;            // of those who could read, so far
  bool thread_wanted_ = false;    // by somebody who waits and has no time to read
  Stream* readable_ = nullptr;    // until its end was read
  bool reading_ = false;          // somebody is the reader
  Deadline reader_until_;         // when that gives up
  std::optional<Failure> wrong_;  // what was read
  uint64_t submitting_ = 0;       // between taking room and being in the queue
  std::optional<Failure> end_;    // set: nothing more is submitted
  bool attached_ = false;
  bool stopped_ = false;                    // the thread has ended
  grpc::ClientContext* context_ = nullptr;  // of the stream under way

  // Last: everything above must exist while it runs.
  std::optional<Thread> thread_;
};

}  // namespace client
}  // namespace tutti
