// What a collective on one node comes down to: independent items, each of which combines some
// buffers into others. A plan lays them end to end, so that any range of it can be done by anybody:
// a thousand small tensors are few ranges, and a large one is many.
//
// Pure; a Plan is a value that refers to the collective's buffers, but not to the collective.
// Thread-safe once it is made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "backends/local/kernels.h"

namespace tutti {

class Plan {
 public:
  // Fails with kUnimplemented, or with kInternal if the buffers do not fit the operation, naming
  // the rank. `kernels` must outlive the plan.
  static absl::StatusOr<Plan> Make(const Collective& collective, const KernelTable& kernels);

  // Where it ends: ranges are of positions 0 to size() - 1. A function of the collective alone, as
  // the following.
  size_t size() const { return size_; }

  // Positions that are one chunk's worth; at least 1.
  size_t chunk_size() const { return chunk_size_; }

  // Does what lies at positions `first` to `first + count - 1`. For plans with streamed outputs,
  // `first` must be a multiple of chunk_size(). From any thread, several at a time.
  void Run(size_t first, size_t count) const;

 private:
  friend class PlanBuilder;

  // A reduction, or a copy (one input), or an exchange (two inputs, two outputs).
  struct Item {
    size_t begin = 0;  // position of its first element
    size_t count = 0;  // elements
    // Where its buffers begin in `inputs_` and `outputs_`.
    size_t first_input = 0;
    size_t first_output = 0;
    uint32_t input_count = 0;
    uint32_t output_count = 0;
    uint32_t streamed = 0;
    bool exchange = false;
  };

  void RunItem(const Item& item, size_t first, size_t count) const;

  std::vector<Item> items_;
  std::vector<const std::byte*> inputs_;
  std::vector<std::byte*> outputs_;
  size_t size_ = 0;
  size_t chunk_size_ = 1;
  uint32_t divisor_ = 1;
  ReduceKernel kernel_ = nullptr;  // for all items but exchanges
  ExchangeKernel exchange_ = nullptr;
};

}  // namespace tutti
