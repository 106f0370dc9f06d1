// A backend for tests of the core: sums float32 in rank order, transfers, does nothing
// else, fails on demand.
//
// Not thread-safe: for tests that step everything by hand.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "backends/backend.h"

namespace tutti {

// What communicators of a FakeBackend did and are to do.
struct FakeScript {
  std::vector<Collective> ran;
  // What the next Run returns, once; then OK again.
  absl::Status next_status;
  bool aborted = false;
};

class FakeCommunicator final : public Communicator {
 public:
  explicit FakeCommunicator(FakeScript* script) : script_(script) {}

  absl::Status Run(const Collective& collective) override {
    script_->ran.push_back(collective);
    const absl::Status status = std::exchange(script_->next_status, absl::OkStatus());
    if (status.ok() && collective.kind == CollectiveKind::kSend) Transfer(collective);
    if (!status.ok() || collective.kind != CollectiveKind::kAllreduce) return status;
    for (size_t i = 0; i < collective.count; ++i) {
      float sum = 0;
      for (const Participant& participant : collective.participants) {
        float element = 0;
        std::memcpy(&element, participant.inputs[0].data + i * sizeof(float), sizeof(float));
        sum += element;
      }
      for (const Participant& participant : collective.participants) {
        std::memcpy(participant.outputs[0].data + i * sizeof(float), &sum, sizeof(float));
      }
    }
    return absl::OkStatus();
  }

  void Abort() override { script_->aborted = true; }

 private:
  static void Transfer(const Collective& collective) {
    const bool source_first = collective.participants[0].rank == collective.root;
    const Buffer& from = collective.participants[source_first ? 0 : 1].inputs[0];
    const Buffer& to = collective.participants[source_first ? 1 : 0].outputs[0];
    if (from.size_bytes > 0) std::memcpy(to.data, from.data, from.size_bytes);
  }

  FakeScript* const script_;
};

// `script` must outlive the backend and its communicators.
class FakeBackend final : public Backend {
 public:
  explicit FakeBackend(FakeScript* script) : script_(script) {}

  std::string_view name() const override { return "fake"; }

  absl::Status Supports(CollectiveKind kind, DataType, ReduceOp) const override {
    if (kind != CollectiveKind::kScatter) return absl::OkStatus();
    return absl::UnimplementedError("the fake has no scatter");
  }

  absl::StatusOr<std::unique_ptr<Communicator>> Connect(const GroupSpec&) override {
    return std::make_unique<FakeCommunicator>(script_);
  }

 private:
  FakeScript* const script_;
};

}  // namespace tutti
