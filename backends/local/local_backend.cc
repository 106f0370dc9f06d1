#include "backends/local/local_backend.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "backends/local/local_communicator.h"

namespace tutti {

absl::Status KernelsSupport(const KernelTable& kernels, const char* backend, CollectiveKind kind,
                            DataType dtype, ReduceOp op) {
  if (Reduces(kind) && dtype == DataType::kBool && op == ReduceOp::kAvg) {
    return absl::UnimplementedError(
        "the average of bool has no meaning; convert to an integer or floating type, or use max "
        "(any) or min (all)");
  }
  bool supported = false;
  if (Reduces(kind)) {
    supported = kernels.reduce[static_cast<size_t>(dtype)][static_cast<size_t>(op)] != nullptr;
  } else if (kind == CollectiveKind::kBarrier) {
    supported = dtype == DataType::kNone && op == ReduceOp::kNone;
  } else if (kind >= CollectiveKind::kBroadcast && kind <= CollectiveKind::kSend) {
    supported = dtype != DataType::kNone && op == ReduceOp::kNone;
  }
  if (supported) return absl::OkStatus();
  std::string what(NameOf(kind));
  if (op != ReduceOp::kNone) absl::StrAppend(&what, " ", NameOf(op));
  if (dtype != DataType::kNone) absl::StrAppend(&what, " of ", NameOf(dtype));
  return absl::UnimplementedError(absl::StrCat("the ", backend, " backend has no ", what));
}

LocalBackend::LocalBackend(TaskRunner* pool, size_t pool_threads)
    : LocalBackend(pool, pool_threads, Kernels()) {}

LocalBackend::LocalBackend(TaskRunner* pool, size_t pool_threads, const KernelTable& kernels)
    : kernels_(kernels), pool_(pool), pool_threads_(pool_threads) {}

absl::Status LocalBackend::Supports(CollectiveKind kind, DataType dtype, ReduceOp op) const {
  return KernelsSupport(kernels_, "local", kind, dtype, op);
}

absl::StatusOr<std::unique_ptr<Communicator>> LocalBackend::Connect(const GroupSpec& spec) {
  if (spec.world_size == 0 || spec.local_ranks.size() != spec.world_size) {
    return absl::InvalidArgumentError(absl::StrCat("the local backend serves groups on one node; ",
                                                   spec.local_ranks.size(), " of ", spec.world_size,
                                                   " ranks are here"));
  }
  return std::make_unique<LocalCommunicator>(spec.world_size, kernels_, pool_, pool_threads_);
}

}  // namespace tutti
