#include "backends/local/plan_builder.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/failpoint.h"

namespace tutti {
namespace {

// From here on, outputs that are not their own input are written past the caches: that spares
// reading what is overwritten, a third of the traffic. Under it they are likely to be found in the
// cache by whoever reads them next.
constexpr size_t kStreamBytes = size_t{16} << 20;

// Items begin at multiples of this many bytes, in positions as in their buffers: ranges of a plan
// then are whole cache lines of buffers that are aligned themselves, and an item that is hardly
// more than its call counts for more.
constexpr size_t kItemAlignmentBytes = kStreamAlignment;

bool Fit(const Buffers& buffers, size_t size_bytes) {
  return std::all_of(buffers.begin(), buffers.end(),
                     [&](const Buffer& buffer) { return buffer.size_bytes == size_bytes; });
}

// Buffers without elements may have any address.
bool InPlace(const Buffer& input, const Buffer& output) {
  return input.data == output.data && input.size_bytes > 0 && output.size_bytes > 0;
}

}  // namespace

PlanBuilder::PlanBuilder(const Collective& collective, const KernelTable& kernels)
    : collective_(collective), ranks_(collective.participants.size()) {
  plan_.divisor_ = collective.world_size;
  plan_.exchange_ = kernels.exchange;
  plan_.kernel_ = kernels.copy;
  // The reduction of one tensor is the tensor, but that a bool becomes 0 or 1.
  if (Reduces(collective.kind) && (ranks_ > 1 || collective.dtype == DataType::kBool)) {
    combines_ = true;
    element_bytes_ = SizeOf(collective.dtype);
    plan_.kernel_ =
        kernels.reduce[static_cast<size_t>(collective.dtype)][static_cast<size_t>(collective.op)];
  }
  streams_allowed_ = BytesTouched(collective) >= kStreamBytes;
}

absl::Status PlanBuilder::Build() {
  if (plan_.kernel_ == nullptr) return absl::UnimplementedError("no kernel");
  switch (collective_.kind) {
    case CollectiveKind::kAllreduce:
    case CollectiveKind::kReduce:
    case CollectiveKind::kBroadcast:
      return AddTensors();
    case CollectiveKind::kAllgather:
    case CollectiveKind::kGather:
      return AddGathers();
    case CollectiveKind::kScatter:
      return AddScatters();
    case CollectiveKind::kReduceScatter:
      return AddReduceScatters();
    case CollectiveKind::kAllToAll:
      return AddAllToAll();
    case CollectiveKind::kSend:
      return AddTransfer();
    case CollectiveKind::kBarrier:
      return absl::OkStatus();  // the meeting itself happened when the core matched it
    default:
      return absl::UnimplementedError(
          absl::StrCat("the local backend has no ", NameOf(collective_.kind)));
  }
}

Plan PlanBuilder::Finish() && {
  plan_.chunk_size_ = ChunkElements(most_buffers_, element_bytes_);
  return std::move(plan_);
}

// Tensor k of all ranks goes together.
absl::Status PlanBuilder::AddTensors() {
  const bool broadcast = collective_.kind == CollectiveKind::kBroadcast;
  const bool rooted = IsRooted(collective_.kind);
  if (rooted && Root() == nullptr) return BadBuffers(collective_.root);
  const Buffers& tensors = (rooted ? Root() : &collective_.participants[0])->inputs;
  size_t size_bytes = 0;
  for (const Buffer& tensor : tensors) size_bytes += tensor.size_bytes;
  if (size_bytes != collective_.count * SizeOf(collective_.dtype)) {
    return BadBuffers(rooted ? collective_.root : 0);
  }
  for (const Participant& rank : collective_.participants) {
    const bool root = rooted && rank.rank == collective_.root;
    const bool reads = !broadcast || root;
    bool writes = !rooted || root != broadcast;
    if (broadcast && root && !rank.outputs.empty()) writes = true;
    absl::Status lists = CheckLists(rank, reads ? tensors.size() : 0, writes ? tensors.size() : 0);
    if (!lists.ok()) return lists;
  }
  for (size_t k = 0; k < tensors.size(); ++k) {
    const size_t tensor_bytes = tensors[k].size_bytes;
    if (tensor_bytes % element_bytes_ != 0) return BadBuffers(collective_.root);
    Begin();
    for (const Participant& rank : collective_.participants) {
      const Buffer* const input = rank.inputs.empty() ? nullptr : &rank.inputs[k];
      const Buffer* const output = rank.outputs.empty() ? nullptr : &rank.outputs[k];
      if ((input != nullptr && input->size_bytes != tensor_bytes) ||
          (output != nullptr && output->size_bytes != tensor_bytes)) {
        return BadBuffers(rank.rank);
      }
      if (input != nullptr) AddInput(*input);
      if (output != nullptr) AddOutput(*output, input);
    }
    End(tensor_bytes);
  }
  return absl::OkStatus();
}

// Every rank's tensor goes to its place in the lists of all, or of the root.
absl::Status PlanBuilder::AddGathers() {
  const bool rooted = IsRooted(collective_.kind);
  if (rooted && Root() == nullptr) return BadBuffers(collective_.root);
  const size_t size_bytes = collective_.count * SizeOf(collective_.dtype);
  for (const Participant& rank : collective_.participants) {
    const bool writes = !rooted || rank.rank == collective_.root;
    absl::Status lists = CheckLists(rank, 1, writes ? ranks_ : 0);
    if (!lists.ok()) return lists;
    if (!Fit(rank.inputs, size_bytes) || !Fit(rank.outputs, size_bytes)) {
      return BadBuffers(rank.rank);
    }
  }
  for (size_t source = 0; source < ranks_; ++source) {
    const Buffer& input = collective_.participants[source].inputs[0];
    Begin();
    AddInput(input);
    for (const Participant& rank : collective_.participants) {
      if (!rank.outputs.empty()) AddOutput(rank.outputs[source], &input);
    }
    End(size_bytes);
  }
  return absl::OkStatus();
}

// Every rank gets its element of the root's list.
absl::Status PlanBuilder::AddScatters() {
  const Participant* const root = Root();
  if (root == nullptr) return BadBuffers(collective_.root);
  const size_t size_bytes = collective_.count * SizeOf(collective_.dtype);
  for (const Participant& rank : collective_.participants) {
    absl::Status lists = CheckLists(rank, &rank == root ? ranks_ : 0, 1);
    if (!lists.ok()) return lists;
    if (!Fit(rank.inputs, size_bytes) || !Fit(rank.outputs, size_bytes)) {
      return BadBuffers(rank.rank);
    }
  }
  for (size_t to = 0; to < ranks_; ++to) {
    AddCopy(root->inputs[to], collective_.participants[to].outputs[0]);
  }
  return absl::OkStatus();
}

// Element r of all lists goes together, to rank r.
absl::Status PlanBuilder::AddReduceScatters() {
  const size_t size_bytes = collective_.count * SizeOf(collective_.dtype);
  for (const Participant& rank : collective_.participants) {
    absl::Status lists = CheckLists(rank, ranks_, 1);
    if (!lists.ok()) return lists;
    if (!Fit(rank.inputs, size_bytes) || !Fit(rank.outputs, size_bytes)) {
      return BadBuffers(rank.rank);
    }
  }
  for (size_t to = 0; to < ranks_; ++to) {
    Begin();
    for (const Participant& rank : collective_.participants) AddInput(rank.inputs[to]);
    const Participant& receiver = collective_.participants[to];
    AddOutput(receiver.outputs[0], &receiver.inputs[to]);
    End(size_bytes);
  }
  return absl::OkStatus();
}

// What a has for b, and b for a, for all pairs.
absl::Status PlanBuilder::AddAllToAll() {
  for (const Participant& rank : collective_.participants) {
    absl::Status lists = CheckLists(rank, ranks_, ranks_);
    if (!lists.ok()) return lists;
    for (const Participant& other : collective_.participants) {
      if (other.outputs.size() != ranks_ ||
          rank.inputs[other.rank].size_bytes != other.outputs[rank.rank].size_bytes) {
        return BadBuffers(rank.rank);
      }
    }
  }
  for (const Participant& a : collective_.participants) {
    AddCopy(a.inputs[a.rank], a.outputs[a.rank]);
    for (Rank b = a.rank + 1; b < ranks_; ++b) {
      absl::Status added = AddExchange(a, collective_.participants[b]);
      if (!added.ok()) return added;
    }
  }
  return absl::OkStatus();
}

absl::Status PlanBuilder::AddExchange(const Participant& a, const Participant& b) {
  const Buffer& a_in = a.inputs[b.rank];
  const Buffer& b_in = b.inputs[a.rank];
  const Buffer& a_out = a.outputs[b.rank];
  const Buffer& b_out = b.outputs[a.rank];
  const bool in_place = InPlace(a_in, a_out) || InPlace(b_in, b_out);
  // The planted defect: the second copy reads what the first has written.
  if (!in_place || Mutated("local.lose_exchange")) {
    AddCopy(a_in, b_out);
    AddCopy(b_in, a_out);
    return absl::OkStatus();
  }
  // Being in place, one buffer of each direction has the size of the other's.
  if (a_in.size_bytes != b_in.size_bytes) return BadBuffers(a.rank);
  Begin();
  item_.exchange = true;
  AddInput(a_in);
  AddInput(b_in);
  plan_.outputs_.push_back(a_out.data);
  plan_.outputs_.push_back(b_out.data);
  item_.output_count = 2;
  End(a_in.size_bytes);
  return absl::OkStatus();
}

absl::Status PlanBuilder::AddTransfer() {
  const size_t size_bytes = collective_.count * SizeOf(collective_.dtype);
  const Buffer* from = nullptr;
  const Buffer* to = nullptr;
  for (const Participant& rank : collective_.participants) {
    const bool sends = rank.rank == collective_.root;
    absl::Status lists = CheckLists(rank, sends ? 1 : 0, sends ? 0 : 1);
    if (!lists.ok()) return lists;
    const Buffer*& buffer = sends ? from : to;
    buffer = sends ? &rank.inputs[0] : &rank.outputs[0];
    if (buffer->size_bytes != size_bytes) return BadBuffers(rank.rank);
  }
  if (from == nullptr || to == nullptr) return BadBuffers(collective_.root);
  AddCopy(*from, *to);
  return absl::OkStatus();
}

void PlanBuilder::AddInput(const Buffer& input) {
  if (item_.input_count++ == 0) item_.first_input = plan_.inputs_.size();
  plan_.inputs_.push_back(input.data);
}

void PlanBuilder::AddOutput(const Buffer& output, const Buffer* own) {
  const bool in_place = own != nullptr && own->data == output.data;
  if (in_place && !combines_) return;  // a copy onto itself
  const bool aligned = reinterpret_cast<uintptr_t>(output.data) % kStreamAlignment == 0;
  if (streams_allowed_ && aligned && !in_place) {
    streamed_.push_back(output.data);
  } else {
    plan_.outputs_.push_back(output.data);
    ++item_.output_count;
  }
}

void PlanBuilder::AddCopy(const Buffer& from, const Buffer& to) {
  Begin();
  AddInput(from);
  AddOutput(to, &from);
  End(from.size_bytes);
}

void PlanBuilder::End(size_t size_bytes) {
  std::vector<std::byte*>& outputs = plan_.outputs_;
  item_.first_output = outputs.size() - item_.output_count;
  item_.streamed = static_cast<uint32_t>(streamed_.size());
  item_.output_count += item_.streamed;
  outputs.insert(outputs.end(), streamed_.begin(), streamed_.end());
  streamed_.clear();
  // Planted defects: an order that is not the ranks' own; a rank that gets nothing; one element too
  // many.
  if (Mutated("local.wrong_order")) {
    std::reverse(plan_.inputs_.end() - item_.input_count, plan_.inputs_.end());
  }
  if (item_.output_count > 0 && item_.streamed == 0 && Mutated("local.skip_output")) {
    --item_.output_count;
  }
  item_.count = size_bytes / element_bytes_;
  if (item_.count > 0 && Mutated("local.write_too_much")) ++item_.count;
  if (item_.count == 0 || item_.output_count == 0) return;
  most_buffers_ = std::max<size_t>(most_buffers_, item_.input_count + item_.output_count);
  item_.begin = plan_.size_;
  const size_t alignment = kItemAlignmentBytes / element_bytes_;
  plan_.size_ += (item_.count + alignment - 1) / alignment * alignment;
  plan_.items_.push_back(item_);
}

absl::Status PlanBuilder::CheckLists(const Participant& participant, size_t inputs,
                                     size_t outputs) const {
  if (participant.inputs.size() != inputs || participant.outputs.size() != outputs) {
    return BadBuffers(participant.rank);
  }
  return absl::OkStatus();
}

absl::Status PlanBuilder::BadBuffers(Rank rank) const {
  return absl::InternalError(absl::StrCat("the buffers of rank ", rank, " do not fit ",
                                          NameOf(collective_.kind), " of ", collective_.count, " ",
                                          NameOf(collective_.dtype)));
}

const Participant* PlanBuilder::Root() const {
  // In a transfer, ranks are not positions.
  for (const Participant& participant : collective_.participants) {
    if (participant.rank == collective_.root) return &participant;
  }
  return nullptr;
}

}  // namespace tutti
