#include "backends/local/chunks.h"

#include <algorithm>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "base/failpoint.h"
#include "base/mutex.h"

namespace tutti {
namespace {

// Shared by the caller and its helpers. A helper may start long after the collective has ended and
// its buffers and communicator are gone: it then finds no chunk, and touches only this.
class ChunkRun {
 public:
  ChunkRun(ChunkedWork work, std::shared_ptr<std::atomic<bool>> aborted)
      : work_(std::move(work)),
        chunk_count_((work_.size + work_.chunk_size - 1) / work_.chunk_size),
        aborted_(std::move(aborted)) {}

  size_t chunk_count() const { return chunk_count_; }

  // Runs chunks until none is left to take.
  void Work() {
    while (!aborted_->load(std::memory_order_relaxed)) {
      const size_t chunk = next_.fetch_add(1, std::memory_order_relaxed);
      if (chunk >= chunk_count_) return;
      const size_t first = chunk * work_.chunk_size;
      // The planted defect: the end is not done, and all is said to be well.
      const bool skip = chunk + 1 == chunk_count_ && Mutated("local.skip_last_chunk");
      if (!skip) work_.body(first, std::min(work_.chunk_size, work_.size - first));
      if (chunk_count_ > 1) Failpoint("local.mid_chunk");
      MutexLock lock(&mutex_);
      ++finished_;
      changed_.Signal();
    }
  }

  // Hands out no more chunks, waits for those that were taken, and says whether that was all.
  bool Finish() {
    const size_t taken =
        std::min(next_.exchange(chunk_count_, std::memory_order_relaxed), chunk_count_);
    MutexLock lock(&mutex_);
    while (finished_ < taken) changed_.Wait(&mutex_);
    return taken == chunk_count_;
  }

 private:
  const ChunkedWork work_;
  const size_t chunk_count_;
  const std::shared_ptr<std::atomic<bool>> aborted_;
  // The next chunk to take. Publishes nothing: helpers see the plan by Post, the caller sees their
  // results by the mutex.
  std::atomic<size_t> next_{0};
  Mutex mutex_;
  CondVar changed_;
  size_t finished_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

absl::Status RunChunks(ChunkedWork work, ChunkHelpers helpers,
                       const std::shared_ptr<std::atomic<bool>>& aborted) {
  const auto status = [](bool all) {
    return all ? absl::OkStatus() : absl::AbortedError("the communicator was aborted");
  };
  if (helpers.count == 0 || work.size <= work.chunk_size) {
    ChunkRun run(std::move(work), aborted);
    run.Work();
    return status(run.Finish());
  }
  // Shared: see ChunkRun.
  const auto run = std::make_shared<ChunkRun>(std::move(work), aborted);
  const size_t useful = std::min(helpers.count, run->chunk_count() - 1);
  for (size_t i = 0; i < useful; ++i) helpers.pool->Post([run] { run->Work(); });
  run->Work();
  return status(run->Finish());
}

}  // namespace tutti
