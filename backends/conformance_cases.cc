#include "absl/strings/str_cat.h"
#include "backends/conformance.h"

namespace tutti::conformance {
namespace {

// Enough for several blocks of any kernel, and a rest.
constexpr size_t kOdd = 10'007;
// Those over this take most of the suite's time, so they come with less of everything.
constexpr size_t kLarge = 100'000;
constexpr size_t kFloatsOf64MiB = size_t{16} << 20;

bool HasTensors(CollectiveKind kind) {
  return kind == CollectiveKind::kAllreduce || kind == CollectiveKind::kReduce ||
         kind == CollectiveKind::kBroadcast;
}

bool IsFloat(DataType dtype) { return dtype >= DataType::kFloat16; }

// Builds the list: each method varies one thing and hands on to the next.
class CaseList {
 public:
  explicit CaseList(const Backend& backend) : backend_(backend) {}

  std::vector<Case> Make() && {
    for (auto kind = uint8_t{1}; kind <= static_cast<uint8_t>(CollectiveKind::kBarrier); ++kind) {
      for (uint8_t dtype = 0; dtype <= static_cast<uint8_t>(DataType::kFloat64); ++dtype) {
        for (uint8_t op = 0; op <= static_cast<uint8_t>(ReduceOp::kAvg); ++op) {
          const Case test{.kind = static_cast<CollectiveKind>(kind),
                          .dtype = static_cast<DataType>(dtype),
                          .op = static_cast<ReduceOp>(op)};
          if (backend_.Supports(test.kind, test.dtype, test.op).ok()) AddOperation(test);
        }
      }
    }
    return std::move(cases_);
  }

 private:
  // Those whose arithmetic or copies are tried in every arrangement.
  static bool InFull(const Case& test) {
    if (test.kind == CollectiveKind::kAllreduce) return true;
    if (Reduces(test.kind)) {
      return test.op == ReduceOp::kSum &&
             (test.dtype == DataType::kFloat32 || test.dtype == DataType::kBfloat16 ||
              test.dtype == DataType::kInt8);
    }
    return test.dtype == DataType::kUint8 || test.dtype == DataType::kFloat64;
  }

  void AddOperation(Case test) {
    if (test.kind == CollectiveKind::kBarrier) {
      test.world_size = 4;
      cases_.push_back(test);
      return;
    }
    if (!InFull(test)) {
      test.world_size = 3;
      test.count = kOdd;
      test.root = 1;
      test.special = IsFloat(test.dtype);
      AddPlacements(test);
      return;
    }
    AddWorlds(test);
    if (test.kind == CollectiveKind::kAllreduce && test.dtype == DataType::kFloat32 &&
        test.op == ReduceOp::kSum) {
      test.world_size = 2;
      test.count = kFloatsOf64MiB;
      AddPlacements(test);
    }
  }

  void AddWorlds(Case test) {
    const size_t element_bytes = SizeOf(test.dtype);
    const size_t large = ((1 << 20) + 3 + element_bytes - 1) / element_bytes;
    for (const uint32_t world_size : {1, 2, 3, 4, 7, 8}) {
      test.world_size = world_size;
      if (test.kind == CollectiveKind::kSend && world_size == 1) continue;
      for (const size_t count : {size_t{0}, size_t{1}, kOdd, large}) {
        test.count = count;
        // Lists of 7 would be 49 buffers.
        const bool lists = !HasTensors(test.kind) && test.kind != CollectiveKind::kSend;
        if (count > kLarge && world_size != 2 && world_size != (lists ? 4 : 7)) continue;
        AddRoots(test);
      }
    }
  }

  void AddRoots(Case test) {
    std::vector<Rank> roots = {0};
    if (IsRooted(test.kind) || test.kind == CollectiveKind::kSend) {
      for (const Rank root : {test.world_size / 2, test.world_size - 1}) {
        if (root != roots.back() && test.count <= kLarge) roots.push_back(root);
      }
    }
    for (const Rank root : roots) {
      test.root = root;
      AddLayouts(test);
    }
  }

  void AddLayouts(Case test) {
    AddPlacements(test);
    if (test.count != kOdd) return;
    if (HasTensors(test.kind) && (!Reduces(test.kind) || test.op <= ReduceOp::kProduct)) {
      for (const Layout layout : {Layout::kThree, Layout::kMany}) {
        test.layout = layout;
        // Hundreds of buffers for each rank: two numbers of ranks are enough.
        if (layout == Layout::kMany && test.world_size != 2 && test.world_size != 7) continue;
        AddPlacements(test);
      }
    }
    if (test.kind == CollectiveKind::kAllToAll) {
      test.layout = Layout::kUneven;
      AddPlacements(test);
    }
    if (!Reduces(test.kind) || !IsFloat(test.dtype)) return;
    test.layout = Layout::kOne;
    test.special = true;
    AddPlacements(test);
  }

  void AddPlacements(Case test) {
    for (const Placement placement :
         {Placement::kInPlace, Placement::kOutOfPlace, Placement::kMixed}) {
      test.placement = placement;
      if (test.kind == CollectiveKind::kSend && placement != Placement::kOutOfPlace) continue;
      // Where results go has little to do with what is computed: so large ones go everywhere for
      // one operation, and in place for the others.
      const bool large = test.count > kLarge;
      if (large && placement == Placement::kMixed) continue;
      if (large && placement == Placement::kOutOfPlace && test.op > ReduceOp::kSum) continue;
      if (test.layout != Layout::kOne && placement == Placement::kInPlace &&
          test.op > ReduceOp::kSum) {
        continue;
      }
      cases_.push_back(test);
    }
  }

  const Backend& backend_;
  std::vector<Case> cases_;
};

}  // namespace

std::string Describe(const Case& test) {
  constexpr const char* kPlacements[] = {"in place", "out of place", "mixed"};
  constexpr const char* kLayouts[] = {"", " in three tensors", " in many tensors", " at most"};
  const std::string op = test.op == ReduceOp::kNone ? "" : absl::StrCat(" ", NameOf(test.op));
  return absl::StrCat(NameOf(test.kind), op, " of ", test.count, " ", NameOf(test.dtype),
                      kLayouts[static_cast<size_t>(test.layout)], test.special ? " with NaN" : "",
                      ", root ", test.root, ", ", test.world_size, " ranks, ",
                      kPlacements[static_cast<size_t>(test.placement)]);
}

std::vector<Case> Cases(const Backend& backend) { return CaseList(backend).Make(); }

}  // namespace tutti::conformance
