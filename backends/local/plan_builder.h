// Makes the Plan of one collective: checks its buffers, and says which of them go together.
//
// For Plan::Make. Used once, on one thread; `collective` must outlive it, `kernels` the plan.
#pragma once

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "backends/backend.h"
#include "backends/local/plan.h"

namespace tutti {

// Elements per chunk, for items of `streams` buffers with elements of `element_bytes` (a power of
// two). A function of the collective alone, so that the same one is always cut alike.
size_t ChunkElements(size_t streams, size_t element_bytes);

class PlanBuilder {
 public:
  PlanBuilder(const Collective& collective, const KernelTable& kernels);

  absl::Status Build();

  // REQUIRES: Build() has succeeded.
  Plan Finish() &&;

 private:
  using Item = Plan::Item;

  // One for each kind, or kinds of one shape.
  absl::Status AddTensors();
  absl::Status AddGathers();
  absl::Status AddScatters();
  absl::Status AddReduceScatters();
  absl::Status AddAllToAll();
  absl::Status AddTransfer();
  absl::Status AddExchange(const Participant& a, const Participant& b);

  // An item is begun, gets its inputs and outputs, and is ended.
  void Begin() { item_ = {}; }
  void AddInput(const Buffer& input);
  // `own` is the input whose very bytes the output may be, if there is one.
  void AddOutput(const Buffer& output, const Buffer* own);
  void End(size_t size_bytes);
  void AddCopy(const Buffer& from, const Buffer& to);

  absl::Status CheckLists(const Participant& participant, size_t inputs, size_t outputs) const;
  absl::Status BadBuffers(Rank rank) const;
  const Participant* Root() const;

  const Collective& collective_;
  const size_t ranks_;
  // Whether items are reductions, of elements; else they are copies and exchanges, of bytes.
  bool combines_ = false;
  size_t element_bytes_ = 1;
  bool streams_allowed_ = false;
  size_t most_buffers_ = 1;
  Item item_;
  std::vector<std::byte*> streamed_;  // outputs of item_ that are streamed, which come last
  Plan plan_;
};

}  // namespace tutti
