// Rendezvous: joins become a formed group, or fail together.
//
// A formation is the time between the first join under a name and the last one. It ends when all
// seats are taken, when joiners disagree, when the earliest of their deadlines passes, or when
// nobody waits any more. On one node the daemon sees every join, so there is nothing to agree on.
//
// Lives on the control loop. Callbacks are posted to it, never called from within a call.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/core/core.h"
#include "daemon/core/deadline_queue.h"
#include "daemon/core/session.h"

namespace tutti {

// (namespace, name).
using GroupKey = std::pair<std::string, std::string>;

// One join that waits.
struct Joiner {
  JoinId id = 0;
  SessionId session = 0;
  uint32_t pid = 0;
  std::string who;  // describes the session
  JoinRequest request;
  MonotonicTime joined;
  MonotonicTime deadline;
  JoinCallback done;
};

// All seats are taken: joiners by rank.
struct Formation {
  GroupKey key;
  uint64_t epoch = 0;
  std::vector<Joiner> joiners;
};

class Rendezvous {
 public:
  using Formed = std::function<void(Formation)>;

  // Both must outlive this. `formed` is called on the loop, from within Join.
  Rendezvous(const Clock* clock, SequencedTaskRunner* loop, DeadlineQueue* deadlines,
             Formed formed);
  ~Rendezvous();

  // Takes a seat. REQUIRES: the request is valid by itself, and no living group has the key.
  // A taken seat fails this join only; disagreement fails all of the formation's.
  void Join(const GroupKey& key, Joiner joiner);

  // Give seats back; `done` of those joins will not run.
  void Cancel(JoinId join);
  void Cancel(SessionId session, uint64_t join_number);
  void SessionGone(SessionId session);

  // Fails every join that waits.
  void FailAll(const Failure& failure);

  // Formations of one namespace.
  size_t CountIn(const std::string& name_space) const;

  std::vector<std::shared_ptr<const GroupSnapshot>> Show() const;

 private:
  struct Forming;
  using FormingMap = std::map<GroupKey, std::unique_ptr<Forming>>;

  std::optional<Failure> Disagreement(const Forming& forming, const Joiner& joiner) const;
  void Reply(const Joiner& joiner, Result<Joined> result);
  void Fail(FormingMap::iterator forming, const Failure& failure);
  void Expired(const GroupKey& key);
  void Rearm(const GroupKey& key, Forming* forming);
  template <typename Predicate>
  void Remove(Predicate gone);
  uint64_t NextEpoch(const GroupKey& key);

  const Clock* const clock_;
  SequencedTaskRunner* const loop_;
  DeadlineQueue* const deadlines_;
  const Formed formed_;
  FormingMap forming_;
  // The last epoch of each name, so that epochs never repeat. Bounded: when it is full, names are
  // forgotten, and start above any epoch that was ever given out.
  std::map<GroupKey, uint64_t> epochs_;
  uint64_t epoch_floor_ = 0;
};

}  // namespace tutti
