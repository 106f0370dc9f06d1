#include "backends/conformance.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/oracle.h"

namespace tutti::conformance {
namespace {

constexpr size_t kGuardBytes = 256;
constexpr std::byte kGuard{0xa5};
// Differs from the guards, and is an unlikely result.
constexpr std::byte kPoison{0xcd};

// Much faster than operator==, which compares std::byte one by one.
bool Same(const Bytes& a, const Bytes& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

// Memory for one buffer between guard bands. Starts one element after a cache line, which is all
// the alignment that clients promise.
class Guarded {
 public:
  Guarded(size_t size_bytes, size_t element_bytes)
      : size_bytes_(size_bytes), memory_(2 * kGuardBytes + 64 + size_bytes, kGuard) {
    const size_t misplaced = reinterpret_cast<uintptr_t>(memory_.data()) % 64;
    begin_ = kGuardBytes + (64 - misplaced) % 64 + element_bytes % 64;
    std::fill_n(data(), size_bytes_, kPoison);
  }

  std::byte* data() { return memory_.data() + begin_; }
  Buffer buffer() { return {.data = data(), .size_bytes = size_bytes_}; }
  void Set(const Bytes& bytes) { std::copy(bytes.begin(), bytes.end(), data()); }
  bool Holds(const Bytes& bytes) {
    return bytes.empty() || std::memcmp(bytes.data(), data(), bytes.size()) == 0;
  }

  bool GuardsIntact() const {
    const auto intact = [](std::byte byte) { return byte == kGuard; };
    const auto begin = memory_.begin() + static_cast<ptrdiff_t>(begin_);
    return std::all_of(memory_.begin(), begin, intact) &&
           std::all_of(begin + static_cast<ptrdiff_t>(size_bytes_), memory_.end(), intact);
  }

 private:
  const size_t size_bytes_;
  Bytes memory_;
  size_t begin_ = 0;
};

bool InPlace(const Case& test, Rank rank) {
  return test.placement == Placement::kInPlace ||
         (test.placement == Placement::kMixed && rank % 2 == 0);
}

// The buffers of all ranks for one run. The vectors hold null where a rank has no such buffer.
struct Arrangement {
  std::vector<std::unique_ptr<Guarded>> inputs;
  std::vector<std::unique_ptr<Guarded>> outputs;  // null if in place as well
  Collective collective;
};

Arrangement Arrange(const Case& test, const std::vector<Bytes>& data) {
  Arrangement made;
  made.collective = {.kind = test.kind,
                     .dtype = test.dtype,
                     .op = test.op,
                     .root = test.root,
                     .count = test.count,
                     .world_size = test.world_size};
  const size_t element_bytes = SizeOf(test.dtype);
  for (Rank rank = 0; rank < test.world_size; ++rank) {
    Participant participant{.rank = rank};
    made.inputs.push_back(nullptr);
    made.outputs.push_back(nullptr);
    const bool reads = Reduces(test.kind) || rank == test.root;
    if (test.kind != CollectiveKind::kBarrier) {
      if (reads) {
        made.inputs[rank] = std::make_unique<Guarded>(data[rank].size(), element_bytes);
        made.inputs[rank]->Set(data[rank]);
        participant.inputs = {made.inputs[rank]->buffer()};
      }
      if (reads && InPlace(test, rank)) {
        participant.outputs = participant.inputs;
      } else {
        made.outputs[rank] = std::make_unique<Guarded>(data[rank].size(), element_bytes);
        participant.outputs = {made.outputs[rank]->buffer()};
      }
      // The root of a broadcast may have no output at all.
      if (!Reduces(test.kind) && reads && test.placement == Placement::kMixed) {
        made.outputs[rank] = nullptr;
        participant.outputs.clear();
      }
    }
    made.collective.participants.push_back(std::move(participant));
  }
  return made;
}

// What each rank has in its output after one run; empty if it has none.
struct Outcome {
  std::vector<Bytes> outputs;
  std::string finding;
};

Outcome RunOnce(Communicator* communicator, const Case& test, const std::vector<Bytes>& data) {
  Arrangement made = Arrange(test, data);
  Outcome outcome;
  if (const absl::Status status = communicator->Run(made.collective); !status.ok()) {
    outcome.finding = std::string(status.message());
    return outcome;
  }
  for (Rank rank = 0; rank < test.world_size; ++rank) {
    Guarded* const input = made.inputs[rank].get();
    Guarded* const output = made.outputs[rank].get();
    for (const Guarded* const memory : {input, output}) {
      if (memory != nullptr && !memory->GuardsIntact()) {
        outcome.finding = absl::StrCat("rank ", rank, ": bytes outside the buffer were written");
      }
    }
    const std::vector<Buffer>& outputs = made.collective.participants[rank].outputs;
    const bool in_place = output == nullptr && !outputs.empty();
    if (input != nullptr && !in_place && !input->Holds(data[rank])) {
      outcome.finding = absl::StrCat("rank ", rank, ": the input was written");
    }
    outcome.outputs.emplace_back();
    if (!outputs.empty()) {
      outcome.outputs.back().assign(outputs[0].data, outputs[0].data + outputs[0].size_bytes);
    }
  }
  return outcome;
}

std::string CheckValues(const Case& test, const std::vector<Bytes>& data, const Bytes& got) {
  if (Reduces(test.kind)) return CheckReduction(test.dtype, test.op, data, got.data());
  if (test.kind == CollectiveKind::kBroadcast && !Same(got, data[test.root])) {
    return "not what the root had";
  }
  return "";
}

std::string CheckOutcomes(const Case& test, const std::vector<Bytes>& data, const Outcome& first,
                          const Outcome& second) {
  if (!first.finding.empty()) return first.finding;
  if (!second.finding.empty()) return second.finding;
  const Bytes* reference = nullptr;
  for (Rank rank = 0; rank < test.world_size; ++rank) {
    const Bytes& got = first.outputs[rank];
    if (!Same(got, second.outputs[rank])) {
      return absl::StrCat("rank ", rank, ": two runs gave different bits");
    }
    if (got.empty() && test.count > 0) continue;  // the root, without an output
    if (reference == nullptr) {
      if (std::string wrong = CheckValues(test, data, got); !wrong.empty()) {
        return absl::StrCat("rank ", rank, ": ", wrong);
      }
      reference = &got;
    } else if (!Same(got, *reference)) {
      return absl::StrCat("rank ", rank, " got other bits than the rank before it");
    }
  }
  return "";
}

absl::StatusOr<std::unique_ptr<Communicator>> Connect(Backend* backend, uint32_t world_size) {
  GroupSpec spec{.world_size = world_size};
  for (Rank rank = 0; rank < world_size; ++rank) spec.local_ranks.push_back(rank);
  return backend->Connect(spec);
}

// Enough for several blocks of any kernel, and a rest.
constexpr size_t kOdd = 10'007;
// Those over this take most of the suite's time, so they come with less of everything.
constexpr size_t kLarge = 100'000;

void AddPlacements(Case test, std::vector<Case>* cases) {
  for (const Placement placement :
       {Placement::kInPlace, Placement::kOutOfPlace, Placement::kMixed}) {
    test.placement = placement;
    // Where results go has little to do with what is computed: so large ones go everywhere for one
    // operation, and in place for the others.
    const bool large = test.count > kLarge;
    if (large && placement == Placement::kMixed) continue;
    if (large && placement == Placement::kOutOfPlace && test.op > ReduceOp::kSum) continue;
    cases->push_back(test);
  }
}

void AddSizes(Case test, std::vector<Case>* cases) {
  const size_t element_bytes = SizeOf(test.dtype);
  for (const uint32_t world_size : {1, 2, 3, 4, 7, 8}) {
    test.world_size = world_size;
    for (const size_t count : {size_t{0}, size_t{1}, kOdd, (1 << 20) / element_bytes + 13}) {
      test.count = count;
      if (count > kLarge && world_size != 2 && world_size != 4 && world_size != 7) continue;
      if (IsRooted(test.kind)) {
        for (const Rank root : {Rank{0}, world_size / 2, world_size - 1}) {
          test.root = root;
          if (root == 0 || root != world_size / 2 || world_size > 2) AddPlacements(test, cases);
        }
      } else {
        AddPlacements(test, cases);
        const bool floats = test.dtype == DataType::kFloat32 || test.dtype == DataType::kFloat64;
        if (count != kOdd || !floats) continue;
        test.special = true;
        AddPlacements(test, cases);
        test.special = false;
      }
    }
  }
}

}  // namespace

std::string Describe(const Case& test) {
  constexpr const char* kPlacements[] = {"in place", "out of place", "mixed"};
  return absl::StrCat(NameOf(test.kind), " ", NameOf(test.op), " of ", test.count, " ",
                      NameOf(test.dtype), test.special ? " with NaN" : "", ", root ", test.root,
                      ", ", test.world_size, " ranks, ",
                      kPlacements[static_cast<size_t>(test.placement)]);
}

std::vector<Case> Cases(const Backend& backend) {
  std::vector<Case> cases;
  for (auto kind = uint8_t{1}; kind <= static_cast<uint8_t>(CollectiveKind::kBarrier); ++kind) {
    for (uint8_t dtype = 0; dtype <= static_cast<uint8_t>(DataType::kFloat64); ++dtype) {
      for (uint8_t op = 0; op <= static_cast<uint8_t>(ReduceOp::kAvg); ++op) {
        Case test{.kind = static_cast<CollectiveKind>(kind),
                  .dtype = static_cast<DataType>(dtype),
                  .op = static_cast<ReduceOp>(op)};
        if (!backend.Supports(test.kind, test.dtype, test.op).ok()) continue;
        if (test.kind == CollectiveKind::kBarrier) {
          test.world_size = 4;
          cases.push_back(test);
        } else {
          AddSizes(test, &cases);
        }
      }
    }
  }
  return cases;
}

std::string Check(Backend* backend, const Case& test, uint64_t seed) {
  const auto fails = [&](std::string_view why) {
    return absl::StrCat(Describe(test), ", seed ", seed, ": ", std::string(why));
  };
  absl::StatusOr<std::unique_ptr<Communicator>> communicator = Connect(backend, test.world_size);
  if (!communicator.ok()) return fails(std::string(communicator.status().message()));
  std::vector<Bytes> data;
  for (Rank rank = 0; rank < test.world_size; ++rank) {
    data.push_back(RandomData({.dtype = test.dtype,
                               .count = test.count,
                               .seed = seed * 1000 + rank,
                               .special = test.special}));
  }
  const Outcome first = RunOnce(communicator->get(), test, data);
  const Outcome second = RunOnce(communicator->get(), test, data);
  const std::string finding = CheckOutcomes(test, data, first, second);
  return finding.empty() ? "" : fails(finding);
}

std::string CheckAbort(Backend* backend) {
  const Case test{.kind = CollectiveKind::kBarrier, .world_size = 2};
  absl::StatusOr<std::unique_ptr<Communicator>> aborted = Connect(backend, test.world_size);
  absl::StatusOr<std::unique_ptr<Communicator>> other = Connect(backend, test.world_size);
  if (!aborted.ok() || !other.ok()) return "cannot connect";
  const Collective collective = Arrange(test, std::vector<Bytes>(test.world_size)).collective;
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
