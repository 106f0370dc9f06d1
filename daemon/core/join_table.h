// The joins of this node that wait for their groups.
//
// Lives on the control loop. Callbacks are posted to it, never called from within a call.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/deadline_queue.h"
#include "daemon/cluster/messages.h"
#include "daemon/core/core.h"
#include "daemon/core/session.h"

namespace tutti {

// One join that waits.
struct Joiner {
  JoinId id = 0;
  GroupKey key;
  SessionId session = 0;
  uint32_t pid = 0;
  std::string who;  // describes the session
  JoinRequest request;
  uint64_t epoch = 0;  // that it will probably be
  MonotonicTime joined;
  MonotonicTime deadline;
  JoinCallback done;
};

class JoinTable {
 public:
  using Expired = std::function<void(JoinId)>;

  // Both must outlive this. `expired` is called on the loop `grace` after a join's deadline: who
  // forms groups should have ended it by then, and would have known more.
  JoinTable(SequencedTaskRunner* loop, DeadlineQueue* deadlines, absl::Duration grace,
            Expired expired);
  ~JoinTable();

  void Add(Joiner joiner);
  // Null if it waits no more.
  const Joiner* Find(JoinId join) const;
  // It waits no more; nothing if it did not wait.
  std::optional<Joiner> Take(JoinId join);
  // Tells one that waits no more how its wait has ended.
  void Reply(Joiner joiner, Result<Joined> result);

  template <typename Predicate>
  std::vector<JoinId> Matching(Predicate matches) const {
    std::vector<JoinId> joins;
    for (const auto& [id, waiting] : waiting_) {
      if (matches(waiting.joiner)) joins.push_back(id);
    }
    return joins;
  }

  // Groups of one namespace that are waited for.
  size_t CountIn(const std::string& name_space) const;

  std::vector<std::shared_ptr<const GroupSnapshot>> Show() const;

 private:
  struct Waiting {
    Joiner joiner;
    std::optional<DeadlineQueue::Handle> deadline;
  };

  SequencedTaskRunner* const loop_;
  DeadlineQueue* const deadlines_;
  const absl::Duration grace_;
  const Expired expired_;
  std::map<JoinId, Waiting> waiting_;
};

}  // namespace tutti
