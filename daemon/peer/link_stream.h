// One stream of gRPC between two daemons, whoever dialled: frames out of an outbox, one write at a
// time; frames into an inbox, which the control loop empties.
//
//   open ──End──► ending (what is in the outbox goes out) ──► finished ──► done
//     └──the other ends it, it breaks, it can't keep up──► ending, with an empty outbox
//
// It goes on reading whatever becomes of its writes: two daemons that both wait until they can
// write would wait for ever. Only a control loop that is behind makes it pause.
//
// Threads: reactions run on gRPC's threads, what the host is told on the control loop; Send and End
// from any. `mutex_` guards what they share, and is never held while gRPC is called.
//
// Lifetime: owns itself until gRPC's OnDone; posted tasks then hold a share. gRPC forbids every
// call on a stream after its last, so whoever is about to make one counts itself in `busy_`, and
// the last waits for zero.
#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/task_runner.h"
#include "daemon/peer/frames.h"
#include "daemon/peer/streams.h"
#include "tutti/v1/peer.grpc.pb.h"

namespace tutti {

class LinkStream;

// Who is told of what streams receive; outlives them all.
class LinkStreamHost {
 public:
  virtual ~LinkStreamHost() = default;

  // On the control loop.
  virtual void Received(const std::shared_ptr<LinkStream>& stream, LinkFrame frame) = 0;
  // The last that is heard of it.
  virtual void Broke(const std::shared_ptr<LinkStream>& stream, const std::string& why) = 0;

  // On any thread: one is no more, nor is its channel, if it had one.
  virtual void Gone(bool dialled) = 0;
};

// What streams use; all of it outlives them.
struct LinkStreamServices {
  const Clock* clock = nullptr;
  SequencedTaskRunner* loop = nullptr;
  LinkStreamHost* host = nullptr;
  // Of what waits to be written.
  size_t outbox_bytes_max = 0;
};

class LinkStream : public std::enable_shared_from_this<LinkStream> {
 public:
  // Runs when what the derived class has, its channel, is gone.
  virtual ~LinkStream() { services_->host->Gone(dialled_); }

  StreamId id() const { return id_; }

  void Send(const LinkFrame& frame);
  // Ends it once everything has been sent; after a second at the latest.
  void End();
  // On the control loop: nothing more is told of it.
  void Silence() { silent_ = true; }

  // gRPC's name of the other end, "ipv4:10.0.0.7:7411"; once something has been received.
  virtual std::string Other() const = 0;

 protected:
  LinkStream(const LinkStreamServices* services, StreamId id, bool dialled)
      : services_(services), id_(id), dialled_(dialled) {}

  // Calls of gRPC.
  virtual void StartReading(v1::LinkFrame* frame) = 0;
  virtual void StartWriting(const v1::LinkFrame* frame) = 0;
  // No read or write is begun any more, and no write is outstanding.
  virtual void FinishStream() = 0;
  // Everything outstanding fails. May it still be called after that?
  virtual void Cancel() = 0;
  virtual bool MayCancelAfterFinish() const = 0;
  // The read side has ended: true if why is known only when it is done.
  virtual bool TellsWhyWhenDone() const = 0;
  virtual std::string WhyReadEnded() const = 0;

  // What reactions do.
  void HandleReadDone(bool ok);
  void HandleWriteDone(bool ok);
  // It breaks, or has broken.
  void Break(const std::string& why);
  // Tells the host that it has broken, unless it has been told.
  void TellBroken(const std::string& why);
  void HandleDone();

  void StartReadUnlessFinished();
  bool HasReceived();

  std::shared_ptr<LinkStream> self_;

 private:
  struct Broken {
    std::string why;
  };
  using Item = std::variant<LinkFrame, Broken>;

  void PostInbox();
  void HandleInbox();
  void StopWriting();
  void CancelUnlessDone();
  void Release();
  void Proceed();

  const LinkStreamServices* const services_;
  const StreamId id_;
  const bool dialled_;

  // gRPC's while a read or write is outstanding.
  v1::LinkFrame read_;
  v1::LinkFrame written_;

  // Of the control loop.
  bool silent_ = false;

  Mutex mutex_;
  std::vector<Item> inbox_ ABSL_GUARDED_BY(mutex_);
  bool inbox_posted_ ABSL_GUARDED_BY(mutex_) = false;
  bool reading_paused_ ABSL_GUARDED_BY(mutex_) = false;
  bool received_ ABSL_GUARDED_BY(mutex_) = false;
  bool told_broken_ ABSL_GUARDED_BY(mutex_) = false;
  // If this side has broken it: says more than what gRPC makes of that.
  std::string why_ ABSL_GUARDED_BY(mutex_);
  std::deque<v1::LinkFrame> outbox_ ABSL_GUARDED_BY(mutex_);
  size_t outbox_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  // Nothing is added to the outbox any more; once it is empty, the end.
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  // Who is about to call gRPC, and an outstanding write.
  int busy_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tutti
