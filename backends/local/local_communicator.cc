#include "backends/local/local_communicator.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backends/local/chunks.h"
#include "backends/local/plan.h"

namespace tutti {
namespace {

// Up to here nobody is worth waking: that takes some 25 microseconds.
constexpr size_t kAloneBytes = size_t{128} << 10;

// All ranks in their order, or the two of a transfer.
bool IsWhole(const Collective& collective, uint32_t world_size) {
  const std::vector<Participant>& participants = collective.participants;
  const bool transfer = IsPairwise(collective.kind);
  if (collective.world_size != world_size || participants.size() != (transfer ? 2 : world_size)) {
    return false;
  }
  for (size_t i = 0; i < participants.size() && !transfer; ++i) {
    if (participants[i].rank != i) return false;
  }
  return true;
}

}  // namespace

LocalCommunicator::LocalCommunicator(uint32_t world_size, const KernelTable& kernels,
                                     TaskRunner* pool, size_t pool_threads)
    : world_size_(world_size),
      kernels_(kernels),
      pool_(pool),
      pool_threads_(pool_threads),
      aborted_(std::make_shared<std::atomic<bool>>(false)) {}

absl::Status LocalCommunicator::Run(const Collective& collective) {
  absl::Status status =
      aborted_->load() ? absl::AbortedError("the communicator was aborted") : Execute(collective);
  if (!status.ok()) Abort();  // the epoch is over
  return status;
}

void LocalCommunicator::Abort() { aborted_->store(true); }

absl::Status LocalCommunicator::Execute(const Collective& collective) {
  if (!IsWhole(collective, world_size_)) {
    return absl::InternalError(absl::StrCat(collective.participants.size(), " ranks of ",
                                            collective.world_size, " in a group of ", world_size_));
  }
  absl::StatusOr<Plan> plan = Plan::Make(collective, kernels_);
  if (!plan.ok()) return plan.status();
  // A caller that may wait for helpers is a thread of the pool, so there is one less.
  size_t helpers = pool_threads_ > 0 ? pool_threads_ - 1 : 0;
  if (collective.alone || BytesTouched(collective) <= kAloneBytes) helpers = 0;
  const size_t size = plan->size();
  const size_t chunk_size = plan->chunk_size();
  // The plan moves: a helper may look at it when this has returned.
  return RunChunks(
      {.size = size,
       .chunk_size = chunk_size,
       .body = [plan = *std::move(plan)](size_t first, size_t count) { plan.Run(first, count); }},
      {.pool = pool_, .count = helpers}, aborted_);
}

}  // namespace tutti
