// Communicators over several nodes in one process: each Run blocks until all nodes are there, then
// they decide, and one of them computes for all. Real threads, no sockets.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "backends/backend.h"
#include "base/mutex.h"

namespace tutti {

// The epochs of all nodes, by their ids. Thread-safe.
class FakeMesh {
 public:
  // One epoch, shared by its nodes.
  struct Epoch {
    explicit Epoch(size_t nodes) : running(nodes), left(0) {}

    Mutex mutex;
    CondVar changed;
    // Of the collective at which all are: by node, null if it is not there yet.
    std::vector<const Collective*> running ABSL_GUARDED_BY(mutex);
    uint64_t rounds ABSL_GUARDED_BY(mutex) = 0;  // that have been computed
    size_t left ABSL_GUARDED_BY(mutex);          // nodes that are still in the last one
    bool broken ABSL_GUARDED_BY(mutex) = false;
    // Transfers that have been begun by the node of the source, by (from, to).
    std::map<std::pair<size_t, size_t>, std::vector<Buffer>> sent ABSL_GUARDED_BY(mutex);
    uint64_t transfers ABSL_GUARDED_BY(mutex) = 0;  // that have ended
  };

  std::shared_ptr<Epoch> EpochOf(const std::string& epoch_id, size_t nodes);

 private:
  Mutex mutex_;
  std::map<std::string, std::shared_ptr<Epoch>> epochs_ ABSL_GUARDED_BY(mutex_);
};

// Sums float32, finds the minimum of bools, transfers; nothing else.
class FakeMeshBackend final : public Backend {
 public:
  // `mesh` must outlive it and its communicators.
  explicit FakeMeshBackend(FakeMesh* mesh) : mesh_(mesh) {}

  std::string_view name() const override { return "mesh"; }
  absl::Status Supports(CollectiveKind, DataType, ReduceOp) const override {
    return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<Communicator>> Connect(const GroupSpec& spec) override;
  size_t nodes_max() const override { return 4; }

  // While held, nodes that have met do not connect.
  void Hold(bool hold) ABSL_LOCKS_EXCLUDED(mutex_);
  bool holds_somebody() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  FakeMesh* const mesh_;
  mutable Mutex mutex_;
  CondVar changed_;
  bool hold_ ABSL_GUARDED_BY(mutex_) = false;
  int held_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tutti
