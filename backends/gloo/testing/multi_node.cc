#include "backends/gloo/testing/multi_node.h"

#include <algorithm>
#include <list>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/local/local_backend.h"
#include "base/thread.h"

namespace tutti {
namespace {

size_t WorldSize(const Nodes& nodes) {
  size_t world_size = 0;
  for (const std::vector<Rank>& ranks : nodes) world_size += ranks.size();
  return world_size;
}

// Counts down to nothing.
class Countdown {
 public:
  explicit Countdown(size_t left) : left_(left) {}
  void Down() {
    MutexLock lock(&mutex_);
    if (--left_ == 0) zero_.SignalAll();
  }
  void Wait() {
    MutexLock lock(&mutex_);
    while (left_ > 0) zero_.Wait(&mutex_);
  }

 private:
  Mutex mutex_;
  CondVar zero_;
  size_t left_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::vector<std::string> Meeting::Meet(size_t who, std::string says) {
  MutexLock lock(&mutex_);
  said_[who] = std::move(says);
  if (++here_ == said_.size()) all_here_.SignalAll();
  while (here_ < said_.size()) all_here_.Wait(&mutex_);
  return said_;
}

void InParallel(size_t count, const std::function<void(size_t)>& body) {
  std::list<Thread> threads;
  for (size_t i = 0; i < count; ++i) threads.emplace_back("parallel", [&body, i] { body(i); });
}

bool SameWords::Decide(const std::vector<std::string_view>& said) {
  said_.assign(said.begin(), said.end());
  return std::all_of(said.begin(), said.end(),
                     [&](std::string_view words) { return words == said[0]; });
}

bool SameWords::DecideSplits(const Splits& splits) { return splits.sent == splits.expected; }

absl::StatusOr<std::unique_ptr<Cluster>> Cluster::Make(Nodes nodes, const Connector& connector) {
  std::unique_ptr<Cluster> cluster(new Cluster(std::move(nodes)));
  const size_t count = cluster->nodes().size();
  Meeting meeting(count);
  std::vector<absl::StatusOr<std::unique_ptr<Communicator>>> made(count);
  InParallel(count, [&](size_t node) {
    GroupSpec spec{.world_size = static_cast<uint32_t>(WorldSize(cluster->nodes())),
                   .local_ranks = cluster->nodes()[node],
                   .nodes = cluster->nodes(),
                   .node = node,
                   .epoch_id = "test"};
    spec.meet = [&meeting, node](std::string mine) { return meeting.Meet(node, std::move(mine)); };
    made[node] = connector(spec);
  });
  for (auto& communicator : made) {
    if (!communicator.ok()) return communicator.status();
    cluster->communicators_.push_back(*std::move(communicator));
  }
  return cluster;
}

Collective Cluster::PartOf(const Collective& collective, size_t node, Agreement* agreement) const {
  Collective part = collective;
  part.participants.clear();
  for (const Participant& rank : collective.participants) {
    const std::vector<Rank>& here = nodes_[node];
    if (std::find(here.begin(), here.end(), rank.rank) != here.end()) {
      part.participants.push_back(rank);
    }
    if (rank.rank != collective.root) part.destination = rank.rank;
  }
  if (!IsPairwise(collective.kind)) part.agreement = agreement;
  return part;
}

absl::Status Cluster::Run(const Collective& collective) {
  const std::string words =
      absl::StrCat(NameOf(collective.kind), " ", NameOf(collective.op), " ", collective.count, " ",
                   NameOf(collective.dtype), " ", collective.root);
  std::list<SameWords> agreements;
  std::vector<Collective> parts;
  for (size_t node = 0; node < nodes_.size(); ++node) {
    parts.push_back(PartOf(collective, node, &agreements.emplace_back(words)));
  }
  absl::Status first;
  for (absl::Status& status : RunParts(parts)) first.Update(std::move(status));
  return first;
}

std::vector<absl::Status> Cluster::RunParts(const std::vector<Collective>& parts) {
  std::vector<absl::Status> verdicts(parts.size());
  Countdown left(parts.size());
  for (size_t node = 0; node < parts.size(); ++node) {
    threads_.Post([&, node] {
      // Of a transfer, nodes without its ranks know nothing.
      if (!IsPairwise(parts[node].kind) || !parts[node].participants.empty()) {
        verdicts[node] = at(node).Run(parts[node]);
      }
      left.Down();
    });
  }
  left.Wait();
  return verdicts;
}

// A cluster that is given back when this is destroyed, unless it is broken.
class MultiNodeBackend::Lease final : public Communicator {
 public:
  Lease(MultiNodeBackend* backend, std::unique_ptr<Cluster> cluster)
      : backend_(*backend), cluster_(std::move(cluster)) {}
  ~Lease() override {
    if (broken_) return;
    MutexLock lock(&backend_.mutex_);
    backend_.idle_.push_back(std::move(cluster_));
  }

  absl::Status Run(const Collective& collective) override {
    absl::Status status = cluster_->Run(collective);
    if (!status.ok()) broken_ = true;
    return status;
  }

  void Abort() override {
    broken_ = true;
    for (size_t node = 0; node < cluster_->nodes().size(); ++node) cluster_->at(node).Abort();
  }

 private:
  MultiNodeBackend& backend_;
  std::unique_ptr<Cluster> cluster_;
  bool broken_ = false;
};

absl::Status MultiNodeBackend::Supports(CollectiveKind kind, DataType dtype, ReduceOp op) const {
  return KernelsSupport(Kernels(), "gloo", kind, dtype, op);
}

absl::StatusOr<std::unique_ptr<Communicator>> MultiNodeBackend::Connect(const GroupSpec& spec) {
  const Nodes nodes = layout_(spec.world_size);
  {
    MutexLock lock(&mutex_);
    for (std::unique_ptr<Cluster>& idle : idle_) {
      if (idle->nodes() != nodes) continue;
      auto lease = std::make_unique<Lease>(this, std::move(idle));
      std::swap(idle, idle_.back());
      idle_.pop_back();
      return lease;
    }
  }
  absl::StatusOr<std::unique_ptr<Cluster>> made = Cluster::Make(nodes, connector_);
  if (!made.ok()) return made.status();
  return std::make_unique<Lease>(this, *std::move(made));
}

Nodes Consecutive(const std::vector<size_t>& sizes) {
  Nodes nodes;
  Rank next = 0;
  for (const size_t size : sizes) {
    nodes.emplace_back();
    for (size_t i = 0; i < size; ++i) nodes.back().push_back(next++);
  }
  return nodes;
}

Nodes Interleaved(uint32_t world_size, size_t nodes) {
  Nodes laid(nodes);
  for (Rank rank = 0; rank < world_size; ++rank) laid[rank % nodes].push_back(rank);
  return laid;
}

}  // namespace tutti
