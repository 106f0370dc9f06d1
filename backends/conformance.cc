#include "backends/conformance.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/conformance_shape.h"

namespace tutti::conformance {
namespace {

constexpr size_t kGuardBytes = 256;
// An unlikely result.
constexpr std::byte kPoison{0xcd};

bool Same(const std::byte* a, const std::byte* b, size_t size_bytes) {
  return size_bytes == 0 || std::memcmp(a, b, size_bytes) == 0;
}

// Memory for one buffer between guard bands of `guard`, which differs among buffers: else copying
// too much would not be seen. Starts `misplaced_bytes` after a cache line.
class Guarded {
 public:
  Guarded(size_t size_bytes, size_t misplaced_bytes, std::byte guard)
      : size_bytes_(size_bytes), guard_(guard), memory_(2 * kGuardBytes + 128 + size_bytes, guard) {
    const size_t past_line = reinterpret_cast<uintptr_t>(memory_.data()) % 64;
    begin_ = kGuardBytes + (64 - past_line) % 64 + misplaced_bytes % 64;
    if (size_bytes > 0) std::memset(data(), std::to_integer<int>(kPoison), size_bytes);
  }

  std::byte* data() { return memory_.data() + begin_; }
  Buffer buffer() { return {.data = data(), .size_bytes = size_bytes_}; }
  bool Holds(const Bytes& bytes) { return Same(bytes.data(), data(), bytes.size()); }
  void Set(const Bytes& bytes) {
    if (!bytes.empty()) std::memcpy(data(), bytes.data(), bytes.size());
  }

  bool GuardsIntact() const {
    const auto intact = [this](std::byte byte) { return byte == guard_; };
    const auto begin = memory_.begin() + static_cast<ptrdiff_t>(begin_);
    return std::all_of(memory_.begin(), begin, intact) &&
           std::all_of(begin + static_cast<ptrdiff_t>(size_bytes_), memory_.end(), intact);
  }

 private:
  size_t size_bytes_;
  std::byte guard_;
  Bytes memory_;
  size_t begin_ = 0;
};

// One case, prepared: the shape, and the contents of all inputs, both by participant.
class Trial {
 public:
  Trial(const Case& test, const Options& options)
      : test_(test), options_(options), shapes_(ShapeOf(test, options.seed)) {
    uint64_t seed = options.seed;
    for (const RankShape& shape : shapes_) {
      data_.emplace_back();
      for (const size_t count : shape.inputs) {
        data_.back().push_back(RandomData({.dtype = test.dtype,
                                           .count = count,
                                           .seed = NextRandom(&seed),
                                           .special = test.special}));
      }
    }
  }

  // Two runs, and what is wrong with them.
  std::string Check(Communicator* communicator);

 private:
  struct Memory {
    std::vector<Guarded> inputs;
    std::vector<Guarded> others;  // outputs that are not in place
    Buffers outputs;              // all of them
  };

  std::vector<Memory> Arrange(Collective* collective) const;
  // Runs once in `memory`, and looks at everything but the results.
  std::string Run(Communicator* communicator, std::vector<Memory>* memory) const;
  std::string CheckUntouched(size_t at, Memory* memory) const;
  std::string CheckResults(const std::vector<Memory>& memory) const;
  std::string CheckValues(const std::vector<Source>& from, const Buffer& got) const;
  const Bytes& DataOf(const Source& source) const;

  const Case test_;
  const Options options_;
  const std::vector<RankShape> shapes_;
  std::vector<std::vector<Bytes>> data_;
};

std::vector<Trial::Memory> Trial::Arrange(Collective* collective) const {
  *collective = {.kind = test_.kind,
                 .dtype = test_.dtype,
                 .op = test_.op,
                 .root = test_.root,
                 .count = test_.kind == CollectiveKind::kAllToAll ? 0 : test_.count,
                 .world_size = test_.world_size};
  const size_t element_bytes = SizeOf(test_.dtype);
  // Any multiple of an element is an address that clients may have; half of the buffers lie as
  // their allocator places them.
  uint64_t random = options_.seed + test_.count;
  const auto guarded = [&](size_t size_bytes) {
    const uint64_t bits = NextRandom(&random);
    const size_t misplaced_bytes = (bits & 1) != 0 ? 0 : (bits >> 1) % 64 * element_bytes;
    return Guarded(size_bytes, misplaced_bytes, static_cast<std::byte>(bits >> 32));
  };
  std::vector<Memory> memory(shapes_.size());
  for (size_t at = 0; at < shapes_.size(); ++at) {
    const RankShape& shape = shapes_[at];
    Participant participant{.rank = shape.rank};
    for (const Bytes& bytes : data_[at]) {
      memory[at].inputs.push_back(guarded(bytes.size()));
      memory[at].inputs.back().Set(bytes);
      participant.inputs.push_back(memory[at].inputs.back().buffer());
    }
    for (const OutputShape& output : shape.outputs) {
      if (!output.in_place_of.has_value()) {
        memory[at].others.push_back(guarded(output.count * element_bytes));
        memory[at].outputs.push_back(memory[at].others.back().buffer());
      } else {
        memory[at].outputs.push_back(memory[at].inputs[*output.in_place_of].buffer());
      }
    }
    participant.outputs = memory[at].outputs;
    collective->participants.push_back(std::move(participant));
  }
  return memory;
}

std::string Trial::Run(Communicator* communicator, std::vector<Memory>* memory) const {
  Collective collective;
  *memory = Arrange(&collective);
  if (const absl::Status status = communicator->Run(collective); !status.ok()) {
    return std::string(status.message());
  }
  for (size_t at = 0; at < shapes_.size(); ++at) {
    std::string finding = CheckUntouched(at, &(*memory)[at]);
    if (!finding.empty()) return absl::StrCat("rank ", shapes_[at].rank, ": ", finding);
  }
  return "";
}

std::string Trial::CheckUntouched(size_t at, Memory* memory) const {
  for (const std::vector<Guarded>* const list : {&memory->inputs, &memory->others}) {
    for (const Guarded& guarded : *list) {
      if (!guarded.GuardsIntact()) return "bytes outside the buffer were written";
    }
  }
  for (size_t i = 0; i < memory->inputs.size(); ++i) {
    const auto is_output = [&](const OutputShape& output) { return output.in_place_of == i; };
    const std::vector<OutputShape>& outputs = shapes_[at].outputs;
    if (std::any_of(outputs.begin(), outputs.end(), is_output)) continue;
    if (!memory->inputs[i].Holds(data_[at][i])) return "an input was written";
  }
  return "";
}

const Bytes& Trial::DataOf(const Source& source) const {
  size_t at = 0;
  while (shapes_[at].rank != source.rank) ++at;
  return data_[at][source.input];
}

std::string Trial::CheckValues(const std::vector<Source>& from, const Buffer& got) const {
  if (!Reduces(test_.kind)) {
    return Same(DataOf(from[0]).data(), got.data, got.size_bytes)
               ? ""
               : absl::StrCat("not what rank ", from[0].rank, " had");
  }
  std::vector<const Bytes*> inputs;
  for (const Source& source : from) inputs.push_back(&DataOf(source));
  return CheckReduction({.dtype = test_.dtype,
                         .op = test_.op,
                         .rounding = options_.rounding,
                         .nodes = options_.nodes},
                        inputs, got.data);
}

// Outputs of the same sources must be the same, so only the first is compared with the oracle.
std::string Trial::CheckResults(const std::vector<Memory>& memory) const {
  std::map<std::pair<Rank, size_t>, Buffer> seen;
  for (size_t at = 0; at < shapes_.size(); ++at) {
    for (size_t i = 0; i < shapes_[at].outputs.size(); ++i) {
      const std::vector<Source>& from = shapes_[at].outputs[i].from;
      const Buffer& got = memory[at].outputs[i];
      const auto [found, first] = seen.insert({{from[0].rank, from[0].input}, got});
      std::string wrong;
      if (first) {
        wrong = CheckValues(from, got);
      } else if (!Same(got.data, found->second.data, got.size_bytes)) {
        wrong = "other bits than a rank before it";
      }
      if (!wrong.empty()) {
        return absl::StrCat("rank ", shapes_[at].rank, ", output ", i, ": ", wrong);
      }
    }
  }
  return "";
}

std::string Trial::Check(Communicator* communicator) {
  std::vector<Memory> first;
  std::vector<Memory> second;
  std::string finding = Run(communicator, &first);
  if (finding.empty()) finding = Run(communicator, &second);
  if (finding.empty()) finding = CheckResults(first);
  for (size_t at = 0; at < shapes_.size() && finding.empty(); ++at) {
    for (size_t i = 0; i < first[at].outputs.size(); ++i) {
      const Buffer& output = first[at].outputs[i];
      if (Same(output.data, second[at].outputs[i].data, output.size_bytes)) continue;
      finding = absl::StrCat("rank ", shapes_[at].rank, ": two runs gave different bits");
    }
  }
  return finding;
}

absl::StatusOr<std::unique_ptr<Communicator>> Connect(Backend* backend, uint32_t world_size) {
  GroupSpec spec{.world_size = world_size};
  for (Rank rank = 0; rank < world_size; ++rank) spec.local_ranks.push_back(rank);
  return backend->Connect(spec);
}

}  // namespace

std::string Check(Backend* backend, const Case& test, const Options& options) {
  absl::StatusOr<std::unique_ptr<Communicator>> communicator = Connect(backend, test.world_size);
  const std::string finding = communicator.ok() ? Trial(test, options).Check(communicator->get())
                                                : std::string(communicator.status().message());
  if (finding.empty()) return "";
  return absl::StrCat(Describe(test), ", seed ", options.seed, ": ", finding);
}

std::string CheckAbort(Backend* backend) {
  absl::StatusOr<std::unique_ptr<Communicator>> aborted = Connect(backend, 2);
  absl::StatusOr<std::unique_ptr<Communicator>> other = Connect(backend, 2);
  if (!aborted.ok() || !other.ok()) return "cannot connect";
  const Collective collective{.kind = CollectiveKind::kBarrier,
                              .world_size = 2,
                              .participants = {{.rank = 0}, {.rank = 1}}};
  if (!(*aborted)->Run(collective).ok()) return "Run fails before Abort";
  (*aborted)->Abort();
  (*aborted)->Abort();
  for (int i = 0; i < 2; ++i) {
    if (!absl::IsAborted((*aborted)->Run(collective))) return "Run after Abort is not kAborted";
  }
  if (!(*other)->Run(collective).ok()) return "Abort reached another communicator";
  return "";
}

}  // namespace tutti::conformance
