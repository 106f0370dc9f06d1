// The works of a session that the daemon has not completed, and what of its completions has been
// seen: what makes a broken stream harmless.
//
// Pure logic, not thread-safe; owned by the lane.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/failure.h"
#include "client/cpp/pending_work.h"
#include "tutti/v1/client.pb.h"

namespace tutti {
inline namespace client {

class WorkQueue {
 public:
  // Gives the work the next number, and keeps it until it completes. The result is valid until
  // then.
  const v1::Work& Add(v1::Work work, std::shared_ptr<PendingWork> pending);

  // What to send again on a new stream, in order: the works after the last one that the daemon has
  // received. Fails with kProtocol if that one was never sent.
  std::optional<Failure> WorksAfter(uint64_t last_received,
                                    std::vector<const v1::Work*>* works) const;

  // Takes a completion, and the work that it ends out of the queue: null if it was taken before (a
  // new stream repeats what has not been acknowledged). Fails with kProtocol if one was skipped, or
  // if it names a work that is not in flight.
  std::optional<Failure> Take(const v1::Completion& completion,
                              std::shared_ptr<PendingWork>* pending);

  // Takes all works out: there will be no more completions.
  std::vector<std::shared_ptr<PendingWork>> TakeAll();

  size_t in_flight() const { return entries_.size(); }
  uint64_t last_number() const { return last_number_; }
  // The last completion that was taken.
  uint64_t last_serial() const { return last_serial_; }
  // How many completions the daemon keeps for us.
  uint64_t unacknowledged() const { return last_serial_ - acknowledged_; }
  // The daemon is about to be told that last_serial() has been taken.
  void Acknowledge() { acknowledged_ = last_serial_; }

 private:
  struct Entry {
    v1::Work work;
    // Shared with the user's handles.
    std::shared_ptr<PendingWork> pending;
  };

  std::map<uint64_t, Entry> entries_;
  uint64_t last_number_ = 0;
  uint64_t last_serial_ = 0;
  uint64_t acknowledged_ = 0;
};

}  // namespace client
}  // namespace tutti
