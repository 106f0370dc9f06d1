// A group whose ranks are all on this node: one Run executes a collective for all of them.
//
// Thread-safe. Owned by whoever connected it, and must not be destroyed during Run. Holds no memory
// of its own and no state between collectives, but whether it was aborted.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "backends/backend.h"
#include "backends/local/kernels.h"
#include "base/task_runner.h"

namespace tutti {

class LocalCommunicator final : public Communicator {
 public:
  // `kernels` and `pool` must outlive this.
  LocalCommunicator(uint32_t world_size, const KernelTable& kernels, TaskRunner* pool,
                    size_t pool_threads);

  // Works on the caller's thread, and with the pool's help if it is worth waking somebody; never
  // waits for a helper that has not started. Fails with kAborted, kUnimplemented, kInternal
  // (buffers that do not fit the operation: the core has checked them).
  absl::Status Run(const Collective& collective) override;

  // Chunks that have been taken are finished, no other is begun.
  void Abort() override;

 private:
  absl::Status Execute(const Collective& collective);

  const uint32_t world_size_;
  const KernelTable& kernels_;
  TaskRunner* const pool_;
  const size_t pool_threads_;
  // Shared with the helpers, which may start when everything else here is gone.
  const std::shared_ptr<std::atomic<bool>> aborted_;
};

}  // namespace tutti
