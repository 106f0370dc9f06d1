#include "backends/gloo/mesh_communicator.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/gloo/all_to_all.h"
#include "base/failpoint.h"

namespace tutti {
namespace {

// Each collective has 2^24 tags: those of its agreement, those of the sizes of an all_to_all, and
// two for each step of its pipeline (8 million, each of 16 KiB at least and 256 KiB for two nodes).
constexpr int kTagBits = 24;
constexpr uint64_t kRowsTag = AllGather::kTags;
constexpr uint64_t kPipelineTag = 2 * AllGather::kTags;

bool IsFlow(CollectiveKind kind) {
  return kind >= CollectiveKind::kAllreduce && kind <= CollectiveKind::kReduceScatter;
}

}  // namespace

MeshCommunicator::MeshCommunicator(std::unique_ptr<Mesh> mesh, Topology topology,
                                   const KernelTable& kernels, const MeshTuning& tuning)
    : mesh_(std::move(mesh)),
      topology_(std::move(topology)),
      kernels_(kernels),
      tuning_(tuning),
      agreement_(mesh_.get(), kSaidBytesMax + small_bytes()),
      pipeline_(mesh_.get(), tuning.step_bytes),
      transfers_(mesh_.get(), &topology_, &kernels, tuning.transfer_bytes) {
  MutexLock lock(&collective_mutex_);
  agreement_.Post(NextTag());
}

uint64_t MeshCommunicator::NextTag() { return collectives_posted_++ << kTagBits; }

absl::Status MeshCommunicator::Run(const Collective& collective) {
  if (broken_.load()) return absl::AbortedError("the communicator was aborted, or has failed");
  absl::Status status = Execute(collective);
  if (!status.ok()) Abort();  // the epoch is over
  return status;
}

void MeshCommunicator::Abort() {
  broken_.store(true);
  mesh_->Abort();
}

absl::Status MeshCommunicator::CheckParticipants(const Collective& collective) const {
  const std::vector<Participant>& participants = collective.participants;
  // Refused: nothing else of it counts.
  if (participants.empty() && !IsPairwise(collective.kind)) return absl::OkStatus();
  bool whole = collective.world_size == topology_.world_size();
  if (IsPairwise(collective.kind)) {
    whole = whole && !participants.empty() && participants.size() <= 2;
  } else {
    whole = whole && std::equal(participants.begin(), participants.end(), topology_.local().begin(),
                                topology_.local().end(),
                                [](const Participant& a, Rank rank) { return a.rank == rank; });
  }
  if (whole && collective.root < topology_.world_size()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(participants.size(), " ranks of ", collective.world_size,
                                          " on a node that has ", topology_.local().size(), " of ",
                                          topology_.world_size()));
}

absl::Status MeshCommunicator::Execute(const Collective& collective) {
  if (absl::Status whole = CheckParticipants(collective); !whole.ok()) return whole;
  if (IsPairwise(collective.kind)) return transfers_.Run(collective);
  if (collective.agreement == nullptr) return absl::InternalError("nothing to agree with");
  MutexLock lock(&collective_mutex_);
  return RunCollective(collective);
}

absl::Status MeshCommunicator::RunCollective(const Collective& collective) {
  // The one after this: so its receives are known to the others when they begin it.
  const uint64_t tag = NextTag();
  agreement_.Post(tag);
  const uint64_t mine = tag - (uint64_t{1} << kTagBits);
  if (!collective.participants.empty()) {
    if (IsFlow(collective.kind)) return RunFlow(collective, mine);
    if (collective.kind == CollectiveKind::kAllToAll) return RunAllToAll(collective, mine);
    if (collective.kind != CollectiveKind::kBarrier) {
      return absl::UnimplementedError(
          absl::StrCat("the gloo backend has no ", NameOf(collective.kind)));
    }
  }
  std::vector<Frame> frames;
  bool agreed = false;
  return Agree(collective, {}, &frames, &agreed);
}

absl::Status MeshCommunicator::Agree(const Collective& collective, std::string_view payload,
                                     std::vector<Frame>* frames, bool* agreed) {
  const std::string_view said = collective.agreement->mine();
  if (said.empty() || said.size() > kSaidBytesMax) return absl::InternalError("nothing said");
  Failpoint("gloo.before_agreement");
  absl::Status status = agreement_.Run({.said = said, .payload = payload}, frames);
  if (!status.ok()) return status;
  std::vector<std::string_view> all;
  for (const Frame& frame : *frames) all.push_back(frame.said);
  *agreed = collective.agreement->Decide(all) || Mutated("gloo.disagree");
  if (*agreed && collective.participants.empty()) {
    return absl::InternalError("agreed on an operation that this node has refused");
  }
  return absl::OkStatus();
}

absl::Status MeshCommunicator::RunFlow(const Collective& collective, uint64_t tag) {
  absl::StatusOr<Flow> flow = Flow::Make(collective, topology_, small_bytes(), kernels_);
  if (!flow.ok()) return flow.status();
  size_t most = 0;
  for (size_t node = 0; node < topology_.nodes(); ++node) {
    most = std::max(most, flow->SourceBytes(node));
  }
  // All nodes find the same, if they agree; if they do not, nobody looks at a payload.
  const bool small = most <= small_bytes();
  std::string payload(small ? flow->SourceBytes(topology_.node) : 0, '\0');
  size_t at = 0;
  for (const Route& route : flow->routes()) {
    const Flow::Range all{.route = &route, .count = route.size};
    if (!small || !route.sources[topology_.node]) continue;
    flow->CombineInputs(all, reinterpret_cast<std::byte*>(payload.data() + at));
    at += flow->BytesOf(all);
  }
  std::vector<Frame> frames;
  bool agreed = false;
  const absl::Status status = Agree(collective, payload, &frames, &agreed);
  if (!status.ok() || !agreed) return status;
  return small ? CombineFrames(*flow, frames) : pipeline_.Run(*flow, tag + kPipelineTag);
}

absl::Status MeshCommunicator::CombineFrames(const Flow& flow,
                                             const std::vector<Frame>& frames) const {
  std::vector<const std::byte*> at;
  for (size_t node = 0; node < frames.size(); ++node) {
    if (frames[node].payload.size() != flow.SourceBytes(node)) {
      return absl::InternalError(absl::StrCat("node ", node, " sent ", frames[node].payload.size(),
                                              " bytes instead of ", flow.SourceBytes(node)));
    }
    at.push_back(reinterpret_cast<const std::byte*>(frames[node].payload.data()));
  }
  for (const Route& route : flow.routes()) {
    const Flow::Range all{.route = &route, .count = route.size};
    std::vector<const std::byte*> parts;
    for (size_t node = 0; node < frames.size(); ++node) {
      if (!route.sources[node]) continue;
      parts.push_back(at[node]);
      at[node] += flow.BytesOf(all);
    }
    if (flow.copies()) {
      flow.CopyOut(all, parts[0]);
    } else {
      flow.CombineParts(all, parts, nullptr);
    }
  }
  return absl::OkStatus();
}

absl::Status MeshCommunicator::RunAllToAll(const Collective& collective, uint64_t tag) {
  std::string rows;
  if (absl::Status encoded = EncodeRows(collective, &rows); !encoded.ok()) return encoded;
  const size_t rows_max = RowsBytes(topology_.ranks_per_node_max(), topology_.world_size());
  const bool small = rows_max <= small_bytes();
  std::vector<Frame> frames;
  bool agreed = false;
  absl::Status status =
      Agree(collective, small ? std::string_view(rows) : std::string_view(), &frames, &agreed);
  if (!status.ok() || !agreed) return status;
  AllGather more(mesh_.get(), small ? 0 : rows_max);
  if (!small) {
    more.Post(tag + kRowsTag);
    status = more.Run({.payload = rows}, &frames);
    if (!status.ok()) return status;
  }
  std::vector<std::string_view> all;
  for (const Frame& frame : frames) all.push_back(frame.payload);
  Splits splits;
  if (absl::Status decoded = DecodeRows(all, topology_, &splits); !decoded.ok()) return decoded;
  if (!collective.agreement->DecideSplits(splits)) return absl::OkStatus();
  // Decided wrongly, a message could be longer than what it is received in.
  if (!Match(splits)) return absl::InternalError("agreed on sizes that do not match");
  ExchangeLocally(collective, kernels_);
  const Flow flow = Flow::MakeAllToAll(collective, topology_, splits, kernels_);
  return pipeline_.Run(flow, tag + kPipelineTag);
}

}  // namespace tutti
