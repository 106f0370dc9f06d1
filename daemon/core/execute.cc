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
  if (IsPairwise(signature.kind)) collective.destination = operation.works.back()->rank;
  collective.count = signature.count;
  collective.world_size = world_size;
  collective.participants.reserve(operation.works.size());
  for (const auto& work : operation.works) {
    const bool elsewhere = work->remote && work->buffers.inputs.empty();
    if (!elsewhere) collective.participants.push_back(work->buffers);
  }
  // A pair's destination may be the lower rank.
  if (IsPairwise(signature.kind)) {
    std::sort(collective.participants.begin(), collective.participants.end(),
              [](const Participant& a, const Participant& b) { return a.rank < b.rank; });
  }
  return collective;
}

namespace {

uint64_t BytesTouched(const Operation& operation) {
  uint64_t bytes = 0;
  for (const auto& work : operation.works) bytes += BytesTouched(work->buffers);
  return bytes;
}

}  // namespace

Executor::Executor(SequencedTaskRunner* loop, TaskRunner* workers, uint64_t inline_bytes_max)
    : loop_(loop), workers_(workers), inline_bytes_max_(inline_bytes_max) {}

std::optional<absl::Status> Executor::TryInline(const ExecutionContext& context,
                                                Operation* operation) const {
  if (BytesTouched(*operation) > inline_bytes_max_) return std::nullopt;
  operation->state = WorkState::kRunning;
  Collective collective = ToCollective(*operation, context.world_size);
  collective.alone = true;
  return context.communicator->Run(collective);
}

void Executor::Start(const ExecutionContext& context, std::shared_ptr<Operation> operation,
                     Done done) {
  operation->state = WorkState::kRunning;
  Collective collective = ToCollective(*operation, context.world_size);
  StartOn(workers_, context.communicator, std::move(collective), std::move(operation),
          std::move(done));
}

void Executor::StartOn(TaskRunner* runner, const std::shared_ptr<Communicator>& communicator,
                       Collective collective, std::shared_ptr<void> keep, Done done) {
  runner->Post([loop = loop_, communicator, collective = std::move(collective),
                keep = std::move(keep), done = std::move(done)]() mutable {
    Failpoint("execute.before_run");
    absl::Status status = communicator->Run(collective);
    Failpoint("execute.after_run");
    loop->PostOrRun([communicator = std::move(communicator), keep = std::move(keep),
                     done = std::move(done), status = std::move(status)] { done(status); });
  });
}

}  // namespace tutti
