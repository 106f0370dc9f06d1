#include "daemon/core/execute.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/failpoint.h"

namespace tutti {

Collective ToCollective(const Operation& operation, uint32_t world_size) {
  TUTTI_CHECK(operation.complete());
  const Signature& signature = operation.works.front()->signature;
  Collective collective;
  collective.kind = signature.kind;
  collective.dtype = signature.dtype;
  collective.op = signature.op;
  if (signature.kind == CollectiveKind::kAgree) {
    collective.kind = CollectiveKind::kAllreduce;
    collective.op = ReduceOp::kMin;
  }
  // Slot 0 of a pair is the source, and a send is what it submits.
  collective.root = IsPairwise(signature.kind) ? operation.works.front()->rank : signature.root;
  collective.count = signature.count;
  collective.world_size = world_size;
  for (const auto& work : operation.works) collective.participants.push_back(work->buffers);
  std::sort(collective.participants.begin(), collective.participants.end(),
            [](const Participant& a, const Participant& b) { return a.rank < b.rank; });
  return collective;
}

Executor::Executor(SequencedTaskRunner* loop, TaskRunner* workers, uint64_t inline_bytes_max)
    : loop_(loop), workers_(workers), inline_bytes_max_(inline_bytes_max) {}

std::optional<absl::Status> Executor::Run(const ExecutionContext& context,
                                          std::shared_ptr<Operation> operation, Done done) {
  operation->state = WorkState::kRunning;
  Collective collective = ToCollective(*operation, context.world_size);
  if (BytesTouched(collective) <= inline_bytes_max_) {
    return context.communicator->Run(collective);
  }
  workers_->Post([loop = loop_, communicator = context.communicator,
                  collective = std::move(collective), operation = std::move(operation),
                  done = std::move(done)]() mutable {
    Failpoint("execute.before_run");
    absl::Status status = communicator->Run(collective);
    Failpoint("execute.after_run");
    loop->Post([communicator = std::move(communicator), operation = std::move(operation),
                done = std::move(done), status = std::move(status)] { done(status); });
  });
  return std::nullopt;
}

}  // namespace tutti
