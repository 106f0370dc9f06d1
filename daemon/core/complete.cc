#include "daemon/core/complete.h"

#include "base/failpoint.h"

namespace tutti {

void Completer::Complete(SessionId session, WorkNumber number,
                         const std::optional<Failure>& failure) {
  Failpoint("complete.before_deliver");
  ++(failure.has_value() ? totals_.works_failed : totals_.works_done);
  Session* const found = find_session_(session);
  if (found == nullptr) return;
  // The planted defect: one rank is told that all is well.
  const bool lie = failure.has_value() && Mutated("complete.split_verdict");
  found->Complete(number, lie ? std::nullopt : failure);
}

}  // namespace tutti
