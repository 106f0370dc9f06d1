// The gRPC lane: one Attach stream. Works in, completions out.
//
//   gRPC threads:  OnReadDone ──inbox──► (one task) ──► control loop: Core::Submit
//                  (if that sleeps, in its turn: no other thread has to wake up)
//   control loop:  Deliver ──outbox──► one write at a time, each with all that has come up
//
// One state machine for the call's life:
//
//   waiting for Open ──► attached ──► ending (an end is decided; writes run out) ──► finished
//
// Threads: reactions run on gRPC's threads, Lane's methods on the control loop; `mutex_` guards
// what they share, and is never held while gRPC is called.
//
// Lifetime: owns itself until OnDone; tasks that are still posted then hold a share. gRPC forbids
// every call on the stream after Finish, so whoever is about to start a read or write counts itself
// in `busy_`, and Finish waits for zero.
#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/task_runner.h"
#include "daemon/core/core.h"
#include "daemon/core/lane.h"
#include "daemon/transport/token_table.h"
#include "tutti/v1/client.pb.h"

namespace tutti {

// What calls of the client service use; all of it outlives the server.
struct CallServices {
  Core* core = nullptr;
  SequencedTaskRunner* loop = nullptr;
  const Clock* clock = nullptr;
  const TokenTable* tokens = nullptr;
  // The session has broken the lane's protocol: closes its socket. On the control loop.
  std::function<void(SessionId session, const Failure& failure)> end_session;
};

class StreamLane final : public grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachResponse>,
                         public Lane,
                         public std::enable_shared_from_this<StreamLane> {
 public:
  // For one call; returns the reactor to hand to gRPC.
  static StreamLane* Start(const CallServices* services, grpc::CallbackServerContext* context);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  std::string_view name() const override { return "grpc"; }
  std::string_view no_ring() const override { return no_ring_; }
  void Deliver(const Completion& completion) override;
  void Close(const Failure& reason) override;

 private:
  struct OpenRequest {
    uint64_t acknowledged = 0;
    std::string no_ring;
  };
  struct AcknowledgeRequest {
    uint64_t through = 0;
  };
  // monostate: none that this build knows.
  using Item = std::variant<std::monostate, OpenRequest, WorkRequest, AcknowledgeRequest>;
  enum class Flush { kNo, kYes };

  StreamLane(const CallServices* services, grpc::CallbackServerContext* context);

  static Item ToItem(const v1::AttachRequest& request);

  // On the control loop.
  void HandleInbox();
  void Handle(const Item& item);
  void HandleOpen(const OpenRequest& open);
  void HandleWork(const WorkRequest& work);
  void HandleAcknowledge(uint64_t through);
  void Break(const std::string& message);
  void Detach();

  // On any thread.
  void End(std::function<grpc::Status()> end, Flush flush);
  void EndWith(const Failure& failure);
  void EndUnauthenticated();
  void CancelUnlessFinished();
  void StartReadUnlessEnding();
  void Release();
  void Proceed();
  bool HasOutput() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FillResponse() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const CallServices* const services_;
  grpc::CallbackServerContext* const context_;
  const std::string token_;
  std::shared_ptr<StreamLane> self_;

  // gRPC's while a read or write is outstanding.
  v1::AttachRequest request_;
  v1::AttachResponse response_;

  // Of the control loop.
  SessionId session_ = 0;
  bool attached_ = false;
  std::string no_ring_;

  Mutex mutex_;
  std::vector<Item> inbox_ ABSL_GUARDED_BY(mutex_);
  bool inbox_posted_ ABSL_GUARDED_BY(mutex_) = false;
  bool reading_paused_ ABSL_GUARDED_BY(mutex_) = false;
  // What Opened is to say; nothing before Open and once it is being written.
  std::optional<WorkNumber> opened_ ABSL_GUARDED_BY(mutex_);
  // From Opened on, until the stream is broken.
  bool may_write_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Completion> outbox_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  // Writes outstanding, and calls of gRPC under way.
  int busy_ ABSL_GUARDED_BY(mutex_) = 0;
  // Decided once: how the stream ends. A function, because it adds metadata to the call, which only
  // the thread that finishes it may touch.
  std::function<grpc::Status()> end_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace tutti
