#include "backends/gloo/transfers.h"

#include <algorithm>
#include <deque>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "backends/local/plan.h"

namespace tutti {
namespace {

// Apart from those of collectives. Each transfer has one tag: its messages keep their order.
constexpr uint64_t kTransferTags = uint64_t{1} << 63;

// Messages under way at a time: one on the wire, one that its receiver asks for, one to spare.
constexpr size_t kWindow = 3;

}  // namespace

Transfers::Transfers(Mesh* mesh, const Topology* topology, const KernelTable* kernels,
                     size_t message_bytes)
    : mesh_(mesh),
      topology_(*topology),
      kernels_(*kernels),
      message_bytes_(message_bytes),
      sent_(topology->nodes()),
      received_(topology->nodes()) {}

absl::Status Transfers::Run(const Collective& collective) {
  if (collective.participants.size() == 2) {
    absl::StatusOr<Plan> plan = Plan::Make(collective, kernels_);
    if (!plan.ok()) return plan.status();
    plan->Run(0, plan->size());
    return absl::OkStatus();
  }
  const Participant& rank = collective.participants[0];
  const bool sends = rank.rank == collective.root;
  const Buffers& buffers = sends ? rank.inputs : rank.outputs;
  const Rank other = sends ? collective.destination : collective.root;
  const size_t size_bytes = collective.count * SizeOf(collective.dtype);
  if (buffers.size() != 1 || buffers[0].size_bytes != size_bytes ||
      other >= topology_.world_size() || topology_.node_of[other] == topology_.node) {
    return absl::InternalError(absl::StrCat("the buffers of rank ", rank.rank,
                                            " do not fit a transfer of ", collective.count, " ",
                                            NameOf(collective.dtype)));
  }
  return Exchange(buffers[0], topology_.node_of[other], sends);
}

absl::Status Transfers::Exchange(const Buffer& bytes, size_t node, bool sends) {
  uint64_t tag = kTransferTags;
  {
    MutexLock lock(&mutex_);
    tag += (sends ? sent_ : received_)[node]++;
  }
  std::deque<std::unique_ptr<Mesh::Message>> window;
  for (size_t at = 0; at < bytes.size_bytes || !window.empty();) {
    if (at < bytes.size_bytes && window.size() < kWindow) {
      std::byte* const data = bytes.data + at;
      const size_t size_bytes = std::min(message_bytes_, bytes.size_bytes - at);
      window.push_back(sends ? mesh_->Send(node, tag, data, size_bytes)
                             : mesh_->Receive(node, tag, data, size_bytes));
      at += size_bytes;
      continue;
    }
    if (absl::Status status = window.front()->Wait(); !status.ok()) return status;
    window.pop_front();
  }
  return absl::OkStatus();
}

}  // namespace tutti
