#include "backends/local/local_backend.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "backends/local/local_communicator.h"
#include "backends/local/reduce_kernels.h"

namespace tutti {
namespace {

bool HasKernels(DataType dtype) { return FindReduceKernel(dtype, ReduceOp::kSum) != nullptr; }

}  // namespace

LocalBackend::LocalBackend(TaskRunner* pool, size_t pool_threads)
    : pool_(pool), pool_threads_(pool_threads) {}

absl::Status LocalBackend::Supports(CollectiveKind kind, DataType dtype, ReduceOp op) const {
  bool supported = false;
  switch (kind) {
    case CollectiveKind::kAllreduce:
      supported = FindReduceKernel(dtype, op) != nullptr;
      break;
    case CollectiveKind::kBroadcast:
      supported = HasKernels(dtype) && op == ReduceOp::kNone;
      break;
    case CollectiveKind::kBarrier:
      supported = dtype == DataType::kNone && op == ReduceOp::kNone;
      break;
    default:
      break;
  }
  if (supported) return absl::OkStatus();
  std::string what(NameOf(kind));
  if (op != ReduceOp::kNone) absl::StrAppend(&what, " ", NameOf(op));
  if (dtype != DataType::kNone) absl::StrAppend(&what, " of ", NameOf(dtype));
  return absl::UnimplementedError(absl::StrCat("the local backend has no ", what));
}

absl::StatusOr<std::unique_ptr<Communicator>> LocalBackend::Connect(const GroupSpec& spec) {
  if (spec.world_size == 0 || spec.local_ranks.size() != spec.world_size) {
    return absl::InvalidArgumentError(absl::StrCat("the local backend serves groups on one node; ",
                                                   spec.local_ranks.size(), " of ", spec.world_size,
                                                   " ranks are here"));
  }
  return std::make_unique<LocalCommunicator>(spec.world_size, pool_, pool_threads_);
}

}  // namespace tutti
