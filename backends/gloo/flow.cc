#include "backends/gloo/flow.h"

#include <algorithm>

#include "backends/gloo/flow_builder.h"
#include "base/failpoint.h"

namespace tutti {

absl::StatusOr<Flow> Flow::Make(const Collective& collective, const Topology& topology,
                                size_t whole_bytes, const KernelTable& kernels) {
  FlowBuilder builder(collective, topology, kernels);
  if (absl::Status status = builder.Build(whole_bytes); !status.ok()) return status;
  return std::move(builder).Finish();
}

Flow Flow::MakeAllToAll(const Collective& collective, const Topology& topology,
                        const Splits& splits, const KernelTable& kernels) {
  FlowBuilder builder(collective, topology, kernels);
  builder.BuildAllToAll(splits);
  return std::move(builder).Finish();
}

template <typename Body>
void Flow::ForEach(const Range& range, const Body& body) const {
  const std::vector<Piece>& pieces = range.route->pieces;
  const size_t end = range.first + range.count;
  // The last piece that begins at the range's first position or before it.
  auto piece = std::upper_bound(pieces.begin(), pieces.end(), range.first,
                                [](size_t at, const Piece& other) { return at < other.begin; });
  if (piece != pieces.begin()) --piece;
  size_t bytes_before = 0;
  for (; piece != pieces.end() && piece->begin < end; ++piece) {
    const size_t from = std::max(range.first, piece->begin) - piece->begin;
    const size_t to = std::min(end - piece->begin, piece->count);
    if (from >= to) continue;
    body(*piece, from, to - from, bytes_before);
    bytes_before += (to - from) * element_bytes_;
  }
}

size_t Flow::SourceBytes(size_t node) const {
  size_t bytes = 0;
  for (const Route& route : lanes_) {
    if (route.sources[node]) bytes += BytesOf({.route = &route, .count = route.size});
  }
  return bytes;
}

size_t Flow::BytesOf(const Range& range) const {
  size_t bytes = 0;
  ForEach(range,
          [&](const Piece&, size_t, size_t count, size_t) { bytes += count * element_bytes_; });
  return bytes;
}

const std::byte* Flow::InputOf(const Range& range) const {
  const std::byte* found = nullptr;
  size_t pieces = 0;
  ForEach(range, [&](const Piece& piece, size_t first, size_t, size_t) {
    ++pieces;
    if (piece.inputs.size() == 1) found = piece.inputs[0] + first * element_bytes_;
  });
  return pieces == 1 && !normalizes_ ? found : nullptr;
}

std::byte* Flow::OutputOf(const Range& range) const {
  std::byte* found = nullptr;
  size_t pieces = 0;
  ForEach(range, [&](const Piece& piece, size_t first, size_t, size_t) {
    ++pieces;
    // Of several outputs, none serves as the source of the others: its rank may be writing there.
    if (piece.outputs.size() == 1) found = piece.outputs[0] + first * element_bytes_;
  });
  return pieces == 1 ? found : nullptr;
}

void Flow::CombineInputs(const Range& range, std::byte* to) const {
  ForEach(range, [&](const Piece& piece, size_t first, size_t count, size_t bytes_before) {
    absl::InlinedVector<const std::byte*, 8> inputs;
    for (const std::byte* input : piece.inputs) inputs.push_back(input + first * element_bytes_);
    std::byte* const outputs[1] = {to + bytes_before};
    combine_inputs_({.inputs = inputs.data(),
                     .input_count = inputs.size(),
                     .outputs = outputs,
                     .output_count = 1,
                     .count = count,
                     .divisor = divisor_});
  });
}

void Flow::CombineParts(const Range& range, const std::vector<const std::byte*>& parts,
                        std::byte* also) const {
  std::vector<const std::byte*> ordered = parts;
  // The planted defect: the order depends on when it is done.
  if (Mutated("gloo.wrong_order")) std::reverse(ordered.begin(), ordered.end());
  ForEach(range, [&](const Piece& piece, size_t first, size_t count, size_t bytes_before) {
    absl::InlinedVector<const std::byte*, 8> inputs;
    for (const std::byte* part : ordered) inputs.push_back(part + bytes_before);
    absl::InlinedVector<std::byte*, 8> outputs;
    for (std::byte* output : piece.outputs) outputs.push_back(output + first * element_bytes_);
    if (also != nullptr) outputs.push_back(also + bytes_before);
    if (outputs.empty()) return;
    combine_parts_({.inputs = inputs.data(),
                    .input_count = inputs.size(),
                    .outputs = outputs.data(),
                    .output_count = outputs.size(),
                    .count = count,
                    .divisor = divisor_});
  });
}

void Flow::CopyOut(const Range& range, const std::byte* result) const {
  ForEach(range, [&](const Piece& piece, size_t first, size_t count, size_t bytes_before) {
    const std::byte* const inputs[1] = {result + bytes_before};
    absl::InlinedVector<std::byte*, 8> outputs;
    for (std::byte* const output : piece.outputs) {
      std::byte* const to = output + first * element_bytes_;
      if (to != inputs[0]) outputs.push_back(to);
    }
    // The planted defect: the last rank of a node gets nothing.
    if (!outputs.empty() && Mutated("gloo.skip_output")) outputs.pop_back();
    if (outputs.empty()) return;
    copy_({.inputs = inputs,
           .input_count = 1,
           .outputs = outputs.data(),
           .output_count = outputs.size(),
           .count = count * element_bytes_});
  });
}

}  // namespace tutti
