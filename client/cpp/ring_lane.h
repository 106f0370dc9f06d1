// The ring lane of a session (shm/ring_layout.h). It has no thread: completions are taken by
// whoever waits for one, so that a verdict needs no further wake-up.
//
//   one of those who wait is the consumer: it takes all completions that come, and ends their works
//   the others wait for it to end theirs, or to be done itself: then one of them goes on
//
// While nobody waits completions stay in the queue, which has room for all works in flight.
//
// Thread-safe. Shared by the connection and by the works that were submitted on it. Nothing of it
// may be called in a forked child.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "base/failure.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "client/cpp/arena_pool.h"
#include "client/cpp/lane.h"
#include "client/cpp/pending_work.h"
#include "shm/mapping.h"
#include "shm/ring_region.h"
#include "shm/spin.h"

namespace tutti {
inline namespace client {

class RingLane final : public Lane,
                       public CompletionSource,
                       public std::enable_shared_from_this<RingLane> {
 public:
  struct Options {
    RingRegion region{nullptr, 0};
    // Where the region is.
    Mapping memory;
    // Our end.
    UniqueFd doorbell;
    // From Welcome, and not more than the region has entries.
    uint64_t in_flight_max = 0;
    uint64_t spin_us = 0;
    // Where tables of spans go.
    std::shared_ptr<ArenaPool> pool;
    // The daemon has broken the protocol, or has hung up: the session is of no use. Runs once at
    // most, on a thread that waits; may call End.
    std::function<void(const Failure&)> broken;
  };
  explicit RingLane(Options options);
  ~RingLane() override;

  void Submit(const Request& request, std::shared_ptr<PendingWork> pending) override;
  uint64_t last_number() override;
  void End(const Failure& reason) override;
  void Join() override;

  void WaitFor(const PendingWork& work, Deadline deadline) override;

 private:
  std::optional<Failure> AddSpans(const Request& request, SubmissionEntry* entry,
                                  PendingWork* pending);
  enum class Pushed { kDone, kNoRoom, kEnded };
  Pushed Push(SubmissionEntry* entry, const std::shared_ptr<PendingWork>& work);
  bool WaitForRoom(Deadline deadline);

  // Waits until `done`, taking completions meanwhile; false if it was not within the time. `done`
  // is called with mutex_ and without.
  template <typename Done>
  bool Drive(const Done& done, Deadline deadline);
  // What the consumer does, until `done`, or until there is nothing more to come.
  template <typename Done>
  void Consume(const Done& done, Deadline deadline);
  // The consumer's. Returns whether there were any.
  bool TakeCompletions();
  void TakeOne(const CompletionEntry& entry);
  std::optional<Failure> FailureOf(const CompletionEntry& entry) const;
  void Sleep(Deadline deadline);
  bool nothing_to_come() const { return ending_ || hung_up_; }

  void Break(Failure failure);
  // Tells of a Break. Neither the consumer nor a holder of mutex_ may call it.
  void ReportIfBroken();

  const RingRegion region_;
  const Mapping memory_;
  const UniqueFd doorbell_;
  const uint64_t in_flight_max_;
  const std::shared_ptr<ArenaPool> pool_;
  const std::function<void(const Failure&)> tell_broken_;

  // Of the consumer.
  RingConsumer<CompletionEntry> completions_;
  Spin spin_;
  uint64_t last_serial_ = 0;

  std::atomic<size_t> in_flight_ = 0;
  std::atomic<bool> ending_ = false;   // end_ or broken_ is set
  std::atomic<bool> hung_up_ = false;  // so soon ending_ will be

  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  RingProducer<SubmissionEntry> submissions_;
  uint64_t last_number_ = 0;
  absl::flat_hash_map<uint64_t, std::shared_ptr<PendingWork>> works_;
  bool consuming_ = false;  // somebody is the consumer
  int waiting_ = 0;         // on changed_
  Deadline give_up_;        // once hung_up_: when the daemon will say nothing more
  std::optional<Failure> end_;
  std::optional<Failure> broken_;
  bool reported_ = false;   // tell_broken_ has been called, or must not be
  bool reporting_ = false;  // it is running
};

}  // namespace client
}  // namespace tutti
