// Cuts one collective into chunks, and runs them on the caller's thread and on helpers of a pool.
//
// Thread-safe inside; RunChunks is called on any thread. No helper is waited for unless it has
// taken a chunk, so a pool that is busy, or that the caller itself occupies, costs speed and never
// a hang.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "base/task_runner.h"

namespace tutti {

// Work over positions 0 to `size - 1`, of which each is independent of the others.
struct ChunkedWork {
  size_t size = 0;
  // At least 1. Must depend on the collective only, never on who runs it.
  size_t chunk_size = 0;
  // Does positions `first` to `first + count - 1`. Called from several threads at once.
  std::function<void(size_t first, size_t count)> body;
};

struct ChunkHelpers {
  TaskRunner* pool = nullptr;
  size_t count = 0;
};

// Runs all of it; everything that `work` refers to is used no more when it returns. Fails with
// kAborted if `aborted` became true before the last chunk was taken.
absl::Status RunChunks(ChunkedWork work, ChunkHelpers helpers,
                       const std::shared_ptr<std::atomic<bool>>& aborted);

}  // namespace tutti
