// Several nodes in one process, and a Backend over all of them that the conformance suite can
// drive.
//
// Thread-safe unless something else is said.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "base/mutex.h"
#include "base/worker_pool.h"

namespace tutti {

// The ranks of each node.
using Nodes = std::vector<std::vector<Rank>>;

// Where some threads meet and tell each other something.
class Meeting {
 public:
  explicit Meeting(size_t parties) : said_(parties) {}

  // Blocks until all have called. Returns what all say.
  std::vector<std::string> Meet(size_t who, std::string says);

 private:
  Mutex mutex_;
  CondVar all_here_;
  size_t here_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::string> said_ ABSL_GUARDED_BY(mutex_);
};

// Runs `body` for 0 to `count - 1` at once, and waits for all.
void InParallel(size_t count, const std::function<void(size_t)>& body);

// Agrees if all say the same.
class SameWords final : public Agreement {
 public:
  explicit SameWords(std::string mine) : mine_(std::move(mine)) {}

  std::string_view mine() const override { return mine_; }
  bool Decide(const std::vector<std::string_view>& said) override;
  bool DecideSplits(const Splits& splits) override;

  // Not thread-safe.
  const std::vector<std::string>& said() const { return said_; }

 private:
  const std::string mine_;
  std::vector<std::string> said_;
};

// One group over several nodes: their communicators.
class Cluster {
 public:
  using Connector = std::function<absl::StatusOr<std::unique_ptr<Communicator>>(const GroupSpec&)>;

  // Connects all nodes at once.
  static absl::StatusOr<std::unique_ptr<Cluster>> Make(Nodes nodes, const Connector& connector);

  const Nodes& nodes() const { return nodes_; }
  Communicator& at(size_t node) { return *communicators_[node]; }
  // Destroys one.
  void Lose(size_t node) { communicators_[node].reset(); }

  // Runs a collective of all ranks, each node its part, and returns the first error.
  absl::Status Run(const Collective& collective);
  // What `node` runs of it. `agreement` must outlive that.
  Collective PartOf(const Collective& collective, size_t node, Agreement* agreement) const;
  // Runs what each node is given: by node, the verdicts.
  std::vector<absl::Status> RunParts(const std::vector<Collective>& parts);

 private:
  explicit Cluster(Nodes nodes) : nodes_(std::move(nodes)), threads_("node", nodes_.size()) {}

  const Nodes nodes_;
  std::vector<std::unique_ptr<Communicator>> communicators_;
  WorkerPool threads_;
};

// Groups of any world size, laid out by `layout`. Clusters are used again: connecting takes longer
// than a case of the suite.
class MultiNodeBackend final : public Backend {
 public:
  using Layout = std::function<Nodes(uint32_t world_size)>;

  MultiNodeBackend(Layout layout, Cluster::Connector connector)
      : layout_(std::move(layout)), connector_(std::move(connector)) {}

  std::string_view name() const override { return "several nodes"; }
  absl::Status Supports(CollectiveKind kind, DataType dtype, ReduceOp op) const override;
  absl::StatusOr<std::unique_ptr<Communicator>> Connect(const GroupSpec& spec) override;

 private:
  class Lease;

  const Layout layout_;
  const Cluster::Connector connector_;
  Mutex mutex_;
  std::vector<std::unique_ptr<Cluster>> idle_ ABSL_GUARDED_BY(mutex_);
};

// {{0}, {1, 2, 3}} for the sizes 1 and 3.
Nodes Consecutive(const std::vector<size_t>& sizes);
// Rank r on node r modulo `nodes`.
Nodes Interleaved(uint32_t world_size, size_t nodes);

}  // namespace tutti
