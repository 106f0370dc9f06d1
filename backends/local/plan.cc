#include "backends/local/plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "backends/local/plan_builder.h"

namespace tutti {
namespace {

// What one chunk reads and writes, over all its buffers. Waking a helper costs about 25 us, in
// which a core moves 250 KiB or more, so less is not worth one; much more leaves a helper idle at
// the end. (docs/adr/0009-kernels.md has measurements.)
constexpr size_t kChunkBytes = size_t{512} << 10;

// Chunks begin at multiples of this many bytes of a buffer, so that two threads share no cache line
// and no page.
constexpr size_t kChunkAlignmentBytes = 4096;

}  // namespace

size_t ChunkElements(size_t streams, size_t element_bytes) {
  const size_t bytes = kChunkBytes / std::max<size_t>(streams, 1);
  return std::max(bytes / kChunkAlignmentBytes, size_t{1}) * kChunkAlignmentBytes / element_bytes;
}

absl::StatusOr<Plan> Plan::Make(const Collective& collective, const KernelTable& kernels) {
  PlanBuilder builder(collective, kernels);
  if (absl::Status status = builder.Build(); !status.ok()) return status;
  return std::move(builder).Finish();
}

void Plan::Run(size_t first, size_t count) const {
  // The last item that begins at `first` or before it.
  auto item = std::upper_bound(items_.begin(), items_.end(), first,
                               [](size_t at, const Item& other) { return at < other.begin; });
  if (item != items_.begin()) --item;
  const size_t end = first + count;
  for (; item != items_.end() && item->begin < end; ++item) {
    const size_t from = std::max(first, item->begin) - item->begin;
    const size_t to = std::min(end - item->begin, item->count);
    // An item is followed by positions that hold nothing.
    if (from < to) RunItem(*item, from, to - from);
  }
}

void Plan::RunItem(const Item& item, size_t first, size_t count) const {
  const std::byte* const* const inputs = &inputs_[item.first_input];
  std::byte* const* const outputs = &outputs_[item.first_output];
  if (item.exchange) {
    exchange_({.a_in = inputs[0],
               .b_in = inputs[1],
               .a_out = outputs[0],
               .b_out = outputs[1],
               .first = first,
               .count = count});
    return;
  }
  kernel_({.inputs = inputs,
           .input_count = item.input_count,
           .outputs = outputs,
           .output_count = item.output_count,
           .streamed = item.streamed,
           .first = first,
           .count = count,
           .divisor = divisor_});
}

}  // namespace tutti
