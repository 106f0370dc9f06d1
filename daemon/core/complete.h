// Completion: the end of each work goes to its session, and is counted.
#pragma once

#include <functional>
#include <optional>

#include "base/failure.h"
#include "daemon/core/ids.h"
#include "daemon/core/session.h"
#include "daemon/core/snapshot.h"
#include "daemon/core/work.h"

namespace tutti {

// Lives on the control loop.
class Completer {
 public:
  // Null if the session has ended.
  using FindSession = std::function<Session*(SessionId)>;

  explicit Completer(FindSession find_session) : find_session_(std::move(find_session)) {}

  // Counts a work that has been taken.
  void Submitted() { ++totals_.works_submitted; }

  // Ends it. A session that has ended is not told.
  void Complete(SessionId session, WorkNumber number, const std::optional<Failure>& failure);

  const Totals& totals() const { return totals_; }

 private:
  const FindSession find_session_;
  Totals totals_;
};

}  // namespace tutti
