// The backend for groups whose ranks are all on this node: kernels over shared memory.
//
// Thread-safe. The daemon's main owns it; its pool must outlive it and its communicators.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "backends/local/kernels.h"
#include "base/task_runner.h"

namespace tutti {

// What can be computed with `kernels`, for any backend that does so: everything that backend.h has
// but recv and agree, which no backend sees; all types; all reductions but the average of bools.
// kUnimplemented otherwise, in the name of `backend`.
absl::Status KernelsSupport(const KernelTable& kernels, const char* backend, CollectiveKind kind,
                            DataType dtype, ReduceOp op);

class LocalBackend final : public Backend {
 public:
  // `pool` has `pool_threads` threads and helps with large collectives; Run itself is meant to be
  // called on one of them (small ones: anywhere).
  LocalBackend(TaskRunner* pool, size_t pool_threads);

  // With other kernels than the processor's best, for tests. `kernels` must outlive it.
  LocalBackend(TaskRunner* pool, size_t pool_threads, const KernelTable& kernels);

  std::string_view name() const override { return "local"; }

  // What KernelsSupport says.
  absl::Status Supports(CollectiveKind kind, DataType dtype, ReduceOp op) const override;

  // Fails with kInvalidArgument if a rank of the group is on another node. Does not block.
  absl::StatusOr<std::unique_ptr<Communicator>> Connect(const GroupSpec& spec) override;

 private:
  const KernelTable& kernels_;
  TaskRunner* const pool_;
  const size_t pool_threads_;
};

}  // namespace tutti
