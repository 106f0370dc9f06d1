#include "backends/gloo/flow_builder.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/failpoint.h"

namespace tutti {
namespace {

// Routes begin at multiples of this many bytes of a tensor, so that no two nodes' parts share a
// cache line of a buffer that is aligned itself.
constexpr size_t kRouteAlignmentBytes = 64;

NodeSet Only(size_t node) { return NodeSet().set(node); }

bool IsHalf(DataType dtype) { return dtype == DataType::kFloat16 || dtype == DataType::kBfloat16; }

size_t BytesOf(const Buffers& buffers) {
  size_t bytes = 0;
  for (const Buffer& buffer : buffers) bytes += buffer.size_bytes;
  return bytes;
}

}  // namespace

FlowBuilder::FlowBuilder(const Collective& collective, const Topology& topology,
                         const KernelTable& kernels)
    : collective_(collective), topology_(topology) {
  flow_.copy_ = kernels.copy;
  flow_.combine_inputs_ = kernels.copy;
  flow_.combine_parts_ = kernels.copy;
  if (Reduces(collective.kind)) ChooseKernels(kernels);
}

void FlowBuilder::ChooseKernels(const KernelTable& kernels) {
  const ReduceKernel* const row = kernels.reduce[static_cast<size_t>(collective_.dtype)];
  const auto kernel = [&](ReduceOp op) { return row[static_cast<size_t>(op)]; };
  flow_.element_bytes_ = SizeOf(collective_.dtype);
  flow_.copies_ = false;
  flow_.divisor_ = collective_.world_size;
  flow_.combine_inputs_ = kernel(collective_.op);
  flow_.combine_parts_ = kernel(collective_.op);
  // Bytes other than 0 are true, and one of them is not yet a 1.
  flow_.normalizes_ = collective_.dtype == DataType::kBool;
  if (collective_.op != ReduceOp::kAvg) return;
  if (IsHalf(collective_.dtype)) {
    // A sum in 16 bits could overflow although the average does not: so each node divides.
    flow_.combine_parts_ = kernel(ReduceOp::kSum);
    flow_.normalizes_ = true;
  } else {
    flow_.combine_inputs_ = kernel(ReduceOp::kSum);
  }
}

absl::Status FlowBuilder::Build(size_t whole_bytes) {
  if (flow_.combine_parts_ == nullptr) return absl::UnimplementedError("no kernel");
  switch (collective_.kind) {
    case CollectiveKind::kAllreduce:
    case CollectiveKind::kReduce:
    case CollectiveKind::kBroadcast:
      return AddTensors(whole_bytes);
    case CollectiveKind::kAllgather:
    case CollectiveKind::kGather:
      return AddGathers();
    case CollectiveKind::kScatter:
    case CollectiveKind::kReduceScatter:
      return AddScatters();
    default:
      return absl::UnimplementedError(
          absl::StrCat("the gloo backend has no ", NameOf(collective_.kind)));
  }
}

absl::Status FlowBuilder::CheckTensors(const Buffers** tensors) const {
  const bool broadcast = collective_.kind == CollectiveKind::kBroadcast;
  const bool reduce = collective_.kind == CollectiveKind::kReduce;
  const Participant& first = collective_.participants.front();
  *tensors = first.inputs.empty() ? &first.outputs : &first.inputs;
  const size_t size_bytes = collective_.count * SizeOf(collective_.dtype);
  if (BytesOf(**tensors) != size_bytes) return BadBuffers(first.rank);
  const auto fit = [&](const Buffers& buffers) {
    return std::equal(
        buffers.begin(), buffers.end(), (*tensors)->begin(), (*tensors)->end(),
        [](const Buffer& a, const Buffer& b) { return a.size_bytes == b.size_bytes; });
  };
  for (const Participant& rank : collective_.participants) {
    const bool reads = !broadcast || IsRoot(rank);
    const bool may_write = !reduce || IsRoot(rank);
    const bool must_write = may_write && !(broadcast && IsRoot(rank));
    if (reads ? !fit(rank.inputs) : !rank.inputs.empty()) return BadBuffers(rank.rank);
    if (rank.outputs.empty() && (!must_write || (*tensors)->empty())) continue;
    if (!may_write || !fit(rank.outputs)) return BadBuffers(rank.rank);
  }
  for (const Buffer& tensor : **tensors) {
    if (tensor.size_bytes % flow_.element_bytes_ != 0) return BadBuffers(first.rank);
  }
  return absl::OkStatus();
}

absl::Status FlowBuilder::AddTensors(size_t whole_bytes) {
  const Buffers* tensors = nullptr;
  if (absl::Status fit = CheckTensors(&tensors); !fit.ok()) return fit;
  const size_t total = BytesOf(*tensors) / flow_.element_bytes_;
  const size_t nodes = topology_.nodes();
  const bool rooted = IsRooted(collective_.kind);
  // With two nodes, the root's part is all that has to cross.
  if (total * flow_.element_bytes_ <= whole_bytes || (rooted && nodes <= 2)) {
    AddTensorRoute(*tensors, rooted ? root_node() : 0, 0, total);
    return absl::OkStatus();
  }
  const size_t alignment = std::max(kRouteAlignmentBytes / flow_.element_bytes_, size_t{1});
  const size_t part = ((total + nodes - 1) / nodes + alignment - 1) / alignment * alignment;
  for (size_t node = 0; node < nodes; ++node) {
    AddTensorRoute(*tensors, node, std::min(node * part, total),
                   std::min((node + 1) * part, total));
  }
  return absl::OkStatus();
}

void FlowBuilder::AddTensorRoute(const Buffers& tensors, size_t owner, size_t begin, size_t end) {
  Route route{.sources = topology_.everybody(), .owner = owner, .size = end - begin};
  route.readers = topology_.everybody();
  if (collective_.kind == CollectiveKind::kReduce) route.readers = Only(root_node());
  if (collective_.kind == CollectiveKind::kBroadcast) {
    route.sources = Only(root_node());
    route.readers.reset(root_node());
  }
  route.readers.reset(owner);
  size_t tensor_begin = 0;
  for (size_t k = 0; k < tensors.size(); ++k) {
    const size_t tensor_end = tensor_begin + tensors[k].size_bytes / flow_.element_bytes_;
    const size_t from = std::max(begin, tensor_begin);
    const size_t to = std::min(end, tensor_end);
    if (from < to) {
      Piece piece{.begin = from - begin, .count = to - from};
      const size_t offset = (from - tensor_begin) * flow_.element_bytes_;
      for (const Participant& rank : collective_.participants) {
        if (!rank.inputs.empty()) piece.inputs.push_back(rank.inputs[k].data + offset);
        if (!rank.outputs.empty()) piece.outputs.push_back(rank.outputs[k].data + offset);
      }
      route.pieces.push_back(std::move(piece));
    }
    tensor_begin = tensor_end;
  }
  flow_.lanes_.push_back(std::move(route));
}

// Every rank's tensor goes to its place in the lists of all, or of the root.
absl::Status FlowBuilder::AddGathers() {
  const size_t all = topology_.world_size();
  const bool rooted = collective_.kind == CollectiveKind::kGather;
  if (absl::Status fit = CheckLists(1, 1, rooted ? 0 : all, all); !fit.ok()) return fit;
  for (size_t node = 0; node < topology_.nodes(); ++node) {
    Route route{.sources = Only(node), .owner = rooted ? root_node() : node};
    if (!rooted) route.readers = topology_.everybody().reset(node);
    for (const Rank source : topology_.ranks[node]) {
      Piece piece{.begin = route.size, .count = BufferPositions()};
      route.size += piece.count;
      const Participant* const from = Local(source);
      if (from != nullptr) piece.inputs.push_back(from->inputs[0].data);
      for (const Participant& rank : collective_.participants) {
        if (rank.outputs.empty()) continue;
        std::byte* const output = rank.outputs[source].data;
        if (from == nullptr || output != from->inputs[0].data) piece.outputs.push_back(output);
      }
      route.pieces.push_back(std::move(piece));
    }
    flow_.lanes_.push_back(std::move(route));
  }
  return absl::OkStatus();
}

// Every rank gets its element of the root's list, or of all lists combined.
absl::Status FlowBuilder::AddScatters() {
  const size_t all = topology_.world_size();
  const bool rooted = collective_.kind == CollectiveKind::kScatter;
  if (absl::Status fit = CheckLists(rooted ? 0 : all, all, 1, 1); !fit.ok()) return fit;
  for (size_t node = 0; node < topology_.nodes(); ++node) {
    Route route{.sources = rooted ? Only(root_node()) : topology_.everybody(), .owner = node};
    for (const Rank to : topology_.ranks[node]) {
      Piece piece{.begin = route.size, .count = BufferPositions()};
      route.size += piece.count;
      for (const Participant& rank : collective_.participants) {
        if (!rank.inputs.empty()) piece.inputs.push_back(rank.inputs[to].data);
      }
      if (const Participant* const receiver = Local(to)) {
        piece.outputs.push_back(receiver->outputs[0].data);
      }
      route.pieces.push_back(std::move(piece));
    }
    flow_.lanes_.push_back(std::move(route));
  }
  return absl::OkStatus();
}

void FlowBuilder::BuildAllToAll(const Splits& splits) {
  flow_.sends_in_place_ = false;
  for (size_t other = 0; other < topology_.nodes(); ++other) {
    if (other == topology_.node) continue;
    AddPair(topology_.node, other, splits);
    AddPair(other, topology_.node, splits);
  }
}

// What `from` has for `to`. A buffer that is received in place of one that is sent has the same
// positions in the route of the other direction: so it has left when the other arrives.
void FlowBuilder::AddPair(size_t from, size_t to, const Splits& splits) {
  Route route{.sources = Only(from), .owner = to};
  for (const Rank low : topology_.ranks[std::min(from, to)]) {
    for (const Rank high : topology_.ranks[std::max(from, to)]) {
      const Rank source = from < to ? low : high;
      const Rank receiver = from < to ? high : low;
      const uint64_t there = splits.sent[source * topology_.world_size() + receiver];
      const uint64_t back = splits.sent[receiver * topology_.world_size() + source];
      Piece piece{.begin = route.size, .count = there};
      if (const Participant* const rank = Local(source)) {
        piece.inputs.push_back(rank->inputs[receiver].data);
      }
      if (const Participant* const rank = Local(receiver)) {
        piece.outputs.push_back(rank->outputs[source].data);
      }
      route.size += std::max(there, back);
      // The planted defect: the two directions do not keep step.
      if (Mutated("gloo.lose_step")) route.size -= std::max(there, back) - there;
      if (there > 0) route.pieces.push_back(std::move(piece));
    }
  }
  flow_.lanes_.push_back(std::move(route));
}

size_t FlowBuilder::BufferPositions() const {
  return collective_.count * SizeOf(collective_.dtype) / flow_.element_bytes_;
}

absl::Status FlowBuilder::CheckLists(size_t inputs, size_t root_inputs, size_t outputs,
                                     size_t root_outputs) const {
  const size_t size_bytes = collective_.count * SizeOf(collective_.dtype);
  const auto fit = [&](const Buffers& buffers, size_t size) {
    return buffers.size() == size &&
           std::all_of(buffers.begin(), buffers.end(),
                       [&](const Buffer& buffer) { return buffer.size_bytes == size_bytes; });
  };
  for (const Participant& rank : collective_.participants) {
    const bool root = IsRoot(rank);
    if (!fit(rank.inputs, root ? root_inputs : inputs) ||
        !fit(rank.outputs, root ? root_outputs : outputs)) {
      return BadBuffers(rank.rank);
    }
  }
  return absl::OkStatus();
}

absl::Status FlowBuilder::BadBuffers(Rank rank) const {
  return absl::InternalError(absl::StrCat("the buffers of rank ", rank, " do not fit ",
                                          NameOf(collective_.kind), " of ", collective_.count, " ",
                                          NameOf(collective_.dtype)));
}

const Participant* FlowBuilder::Local(Rank rank) const {
  if (topology_.node_of[rank] != topology_.node) return nullptr;
  const std::vector<Rank>& local = topology_.local();
  const auto found = std::lower_bound(local.begin(), local.end(), rank);
  return &collective_.participants[static_cast<size_t>(found - local.begin())];
}

bool FlowBuilder::IsRoot(const Participant& participant) const {
  return IsRooted(collective_.kind) && participant.rank == collective_.root;
}

}  // namespace tutti
