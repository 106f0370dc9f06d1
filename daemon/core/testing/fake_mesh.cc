#include "daemon/core/testing/fake_mesh.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace tutti {
namespace {

absl::Status Broken() { return absl::UnavailableError("a connection has ended"); }

template <typename T>
void Reduce(const std::vector<const Collective*>& all, T (*combine)(T, T)) {
  for (size_t i = 0; i < all.front()->count; ++i) {
    T result{};
    bool first = true;
    for (const Collective* part : all) {
      for (const Participant& rank : part->participants) {
        T element{};
        std::memcpy(&element, rank.inputs[0].data + i * sizeof(T), sizeof(T));
        result = std::exchange(first, false) ? element : combine(result, element);
      }
    }
    for (const Collective* part : all) {
      for (const Participant& rank : part->participants) {
        std::memcpy(rank.outputs[0].data + i * sizeof(T), &result, sizeof(T));
      }
    }
  }
}

void Compute(const std::vector<const Collective*>& all) {
  if (all.front()->kind != CollectiveKind::kAllreduce) return;
  if (all.front()->dtype == DataType::kBool) {
    Reduce<uint8_t>(all, [](uint8_t a, uint8_t b) { return std::min(a, b); });
  } else {
    Reduce<float>(all, [](float a, float b) { return a + b; });
  }
}

class FakeMeshCommunicator final : public Communicator {
 public:
  FakeMeshCommunicator(std::shared_ptr<FakeMesh::Epoch> epoch, const GroupSpec& spec)
      : epoch_(std::move(epoch)), spec_(spec) {}
  ~FakeMeshCommunicator() override { Abort(); }

  absl::Status Run(const Collective& collective) override {
    if (collective.kind != CollectiveKind::kSend) return Meet(collective);
    if (collective.participants.size() == 2) return Copy(collective);
    return collective.participants.front().inputs.empty() ? Receive(collective) : Send(collective);
  }

  void Abort() override {
    MutexLock lock(&epoch_->mutex);
    epoch_->broken = true;
    epoch_->changed.SignalAll();
  }

 private:
  absl::Status Meet(const Collective& collective) {
    FakeMesh::Epoch& epoch = *epoch_;
    MutexLock lock(&epoch.mutex);
    while (epoch.left > 0 && !epoch.broken) epoch.changed.Wait(&epoch.mutex);
    if (epoch.broken) return Broken();
    const uint64_t round = epoch.rounds;
    epoch.running[spec_.node] = &collective;
    const bool all =
        std::find(epoch.running.begin(), epoch.running.end(), nullptr) == epoch.running.end();
    if (all) {
      Decide(epoch.running);
      epoch.left = epoch.running.size();
      ++epoch.rounds;
      epoch.changed.SignalAll();
    }
    while (epoch.rounds == round && !epoch.broken) epoch.changed.Wait(&epoch.mutex);
    if (epoch.rounds == round) return Broken();
    epoch.running[spec_.node] = nullptr;
    --epoch.left;
    epoch.changed.SignalAll();
    return absl::OkStatus();
  }

  static void Decide(const std::vector<const Collective*>& all) {
    std::vector<std::string_view> said;
    for (const Collective* part : all) said.push_back(part->agreement->mine());
    size_t agreed = 0;
    for (const Collective* part : all) agreed += part->agreement->Decide(said) ? 1 : 0;
    if (agreed == all.size()) Compute(all);
  }

  static absl::Status Copy(const Collective& collective) {
    const bool first = collective.participants[0].rank == collective.root;
    const Buffer& from = collective.participants[first ? 0 : 1].inputs[0];
    const Buffer& to = collective.participants[first ? 1 : 0].outputs[0];
    if (from.size_bytes > 0) std::memcpy(to.data, from.data, from.size_bytes);
    return absl::OkStatus();
  }

  // A transfer names ranks; which nodes they are on, the spec says.
  size_t NodeOf(Rank rank) const {
    for (size_t node = 0; node < spec_.nodes.size(); ++node) {
      const auto& ranks = spec_.nodes[node];
      if (std::find(ranks.begin(), ranks.end(), rank) != ranks.end()) return node;
    }
    return spec_.nodes.size();
  }

  absl::Status Send(const Collective& collective) {
    FakeMesh::Epoch& epoch = *epoch_;
    MutexLock lock(&epoch.mutex);
    // To whom does not matter: there are two nodes in these tests.
    auto& queue = epoch.sent[{spec_.node, 1 - spec_.node}];
    queue.push_back(collective.participants.front().inputs.front());
    const uint64_t mine = ++sends_;
    epoch.changed.SignalAll();
    while (taken_of(mine) && !epoch.broken) epoch.changed.Wait(&epoch.mutex);
    return taken_of(mine) ? Broken() : absl::OkStatus();
  }
  // Whether send number `mine` still waits.
  bool taken_of(uint64_t mine) const ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return sends_ - epoch_->sent[{spec_.node, 1 - spec_.node}].size() < mine;
  }

  absl::Status Receive(const Collective& collective) {
    FakeMesh::Epoch& epoch = *epoch_;
    MutexLock lock(&epoch.mutex);
    auto& queue = epoch.sent[{NodeOf(collective.root), spec_.node}];
    while (queue.empty() && !epoch.broken) epoch.changed.Wait(&epoch.mutex);
    if (queue.empty()) return Broken();
    const Buffer& to = collective.participants.front().outputs.front();
    std::memcpy(to.data, queue.front().data, std::min(to.size_bytes, queue.front().size_bytes));
    queue.erase(queue.begin());
    epoch.changed.SignalAll();
    return absl::OkStatus();
  }

  const std::shared_ptr<FakeMesh::Epoch> epoch_;
  const GroupSpec spec_;
  uint64_t sends_ = 0;
};

}  // namespace

std::shared_ptr<FakeMesh::Epoch> FakeMesh::EpochOf(const std::string& epoch_id, size_t nodes) {
  MutexLock lock(&mutex_);
  auto& epoch = epochs_[epoch_id];
  if (epoch == nullptr) epoch = std::make_shared<Epoch>(nodes);
  return epoch;
}

absl::StatusOr<std::unique_ptr<Communicator>> FakeMeshBackend::Connect(const GroupSpec& spec) {
  const auto met = spec.meet("here");
  if (!met.ok()) return met.status();
  {
    MutexLock lock(&mutex_);
    ++held_;
    while (hold_) changed_.Wait(&mutex_);
    --held_;
  }
  return std::make_unique<FakeMeshCommunicator>(mesh_->EpochOf(spec.epoch_id, spec.nodes.size()),
                                                spec);
}

void FakeMeshBackend::Hold(bool hold) {
  MutexLock lock(&mutex_);
  hold_ = hold;
  changed_.SignalAll();
}

bool FakeMeshBackend::holds_somebody() const {
  MutexLock lock(&mutex_);
  return hold_ && held_ > 0;
}

}  // namespace tutti
