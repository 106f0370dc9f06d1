// Execution: a complete, agreed operation becomes one Collective for all ranks of this node, and a
// communicator runs it, on the loop if it is small, else on a worker. No thread per rank, and no
// meeting of threads.
#pragma once

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "backends/backend.h"
#include "base/task_runner.h"
#include "daemon/core/work.h"

namespace tutti {

// What an operation needs besides its works.
struct ExecutionContext {
  const std::shared_ptr<Communicator>& communicator;
  uint32_t world_size = 0;
};

// Lives on the control loop.
class Executor {
 public:
  // Runners must outlive this. Operations that touch at most `inline_bytes_max` run on the loop:
  // handing over to a worker and back would take longer than they do.
  Executor(SequencedTaskRunner* loop, TaskRunner* workers, uint64_t inline_bytes_max);

  // Runs `operation` here and now, if it is small. REQUIRES: operation->complete()
  std::optional<absl::Status> TryInline(const ExecutionContext& context,
                                        Operation* operation) const;

  using Done = std::function<void(absl::Status)>;

  // Has a worker run `operation`, and calls `done` on the loop then. Meanwhile the operation, and
  // with it every mapping that it names, is kept alive, and is let go of on the loop. REQUIRES:
  // operation->complete()
  void Start(const ExecutionContext& context, std::shared_ptr<Operation> operation, Done done);

  // Has `runner` run `collective`, of which `keep` owns what it refers to; as Start.
  void StartOn(TaskRunner* runner, const std::shared_ptr<Communicator>& communicator,
               Collective collective, std::shared_ptr<void> keep, Done done);

 private:
  SequencedTaskRunner* const loop_;
  TaskRunner* const workers_;
  const uint64_t inline_bytes_max_;
};

// The value that backends get: of the works whose buffers are here. REQUIRES: operation.complete()
Collective ToCollective(const Operation& operation, uint32_t world_size);

}  // namespace tutti
