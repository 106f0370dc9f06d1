#include "backends/gloo/mesh_communicator.h"

#include <catch2/catch.hpp>
#include <iostream>
#include <random>

#include "backends/conformance.h"
#include "backends/gloo/testing/fake_mesh.h"
#include "backends/gloo/testing/multi_node.h"

namespace tutti {
namespace {

using conformance::Case;
using conformance::Check;

// Small, so that small operations have many steps.
constexpr MeshTuning kTuning{.small_bytes = 512, .step_bytes = 4096, .transfer_bytes = 1000};

// Networks outlive what they connect.
class FakeNodes {
 public:
  absl::StatusOr<std::unique_ptr<Communicator>> Connect(const GroupSpec& spec,
                                                        const MeshTuning& tuning = kTuning) {
    absl::StatusOr<Topology> topology = Topology::Make(spec);
    if (!topology.ok()) return topology.status();
    const std::string name = absl::StrCat(MakeIfFirst(spec));
    const size_t network = std::stoul(spec.meet(name)->at(0));
    MutexLock lock(&mutex_);
    return std::make_unique<MeshCommunicator>(networks_[network]->MakeMesh(spec.node),
                                              *std::move(topology), Kernels(), tuning);
  }

  std::string violation() {
    MutexLock lock(&mutex_);
    for (const auto& network : networks_) {
      if (!network->violation().empty()) return network->violation();
    }
    return "";
  }

 private:
  size_t MakeIfFirst(const GroupSpec& spec) {
    MutexLock lock(&mutex_);
    if (spec.node == 0) networks_.push_back(std::make_unique<FakeNetwork>(spec.nodes.size()));
    return networks_.size() - 1;
  }

  Mutex mutex_;
  std::vector<std::unique_ptr<FakeNetwork>> networks_ ABSL_GUARDED_BY(mutex_);
};

// Runs each `stride`-th case for which there are ranks enough.
void RunSuite(size_t nodes, const MultiNodeBackend::Layout& layout, size_t stride,
              size_t count_max) {
  FakeNodes fakes;
  MultiNodeBackend backend(layout, [&](const GroupSpec& spec) { return fakes.Connect(spec); });
  const uint64_t seed = std::random_device()();
  std::cout << nodes << " nodes, seed " << seed << std::endl;
  const std::vector<Case> cases = conformance::Cases(backend);
  size_t ran = 0;
  for (size_t i = seed % stride; i < cases.size(); i += stride) {
    if (cases[i].world_size < nodes || cases[i].count > count_max) continue;
    REQUIRE(Check(&backend, cases[i], {.seed = seed, .nodes = layout(cases[i].world_size)}) == "");
    ++ran;
  }
  CHECK(fakes.violation() == "");
  std::cout << ran << " cases" << std::endl;
}

TEST_CASE("Over two nodes without sockets, the suite passes") {
  RunSuite(
      2, [](uint32_t world_size) { return Interleaved(world_size, 2); }, 3, 20'000);
}

TEST_CASE("So it does over three to seven nodes") {
  for (size_t nodes = 3; nodes <= 7; ++nodes) {
    RunSuite(
        nodes, [&](uint32_t world_size) { return Interleaved(world_size, nodes); }, 11, 2'000'000);
  }
}

// Bytes that each node sends in a collective of `count` floats over three nodes with two ranks
// each, without what its agreement takes.
using Traffic = std::map<std::pair<size_t, size_t>, size_t>;
Traffic TrafficOf(CollectiveKind kind, Rank root, size_t count) {
  FakeNetwork network(3);
  const ReduceOp op = Reduces(kind) ? ReduceOp::kSum : ReduceOp::kNone;
  const Case test{.kind = kind,
                  .dtype = DataType::kFloat32,
                  .op = op,
                  .root = root,
                  .count = count,
                  .world_size = 6,
                  .placement = conformance::Placement::kOutOfPlace};
  MultiNodeBackend backend(
      [](uint32_t) {
        return Consecutive({2, 2, 2});
      },
      [&](const GroupSpec& spec) {
        return absl::StatusOr<std::unique_ptr<Communicator>>(std::make_unique<MeshCommunicator>(
            network.MakeMesh(spec.node), *Topology::Make(spec), Kernels(), kTuning));
      });
  CHECK(Check(&backend, test, {.nodes = Consecutive({2, 2, 2})}) == "");
  Traffic traffic = network.TakeTraffic();
  // Check runs it twice.
  for (auto& [pair, bytes] : traffic) bytes /= 2;
  return traffic;
}

TEST_CASE("No byte crosses more often than it must") {
  constexpr size_t kCount = 300'000;
  constexpr size_t kBytes = kCount * sizeof(float);
  constexpr size_t kAgreement = 500;
  const auto near = [](size_t bytes, size_t wanted) {
    return bytes >= wanted && bytes <= wanted + kAgreement;
  };
  // Two thirds out, two thirds back, through each node's link, for two ranks as for one.
  for (const auto& [pair, bytes] : TrafficOf(CollectiveKind::kAllreduce, 0, kCount)) {
    CHECK(near(bytes, kBytes / 3 * 2));
  }
  Traffic broadcast = TrafficOf(CollectiveKind::kBroadcast, 2, kCount);
  CHECK(near(broadcast[{1, 0}], kBytes / 3 * 2));
  CHECK(near(broadcast[{1, 2}], kBytes / 3 * 2));
  CHECK(near(broadcast[{0, 2}], kBytes / 3));
  CHECK(near(broadcast[{0, 1}], 0));
  Traffic reduce = TrafficOf(CollectiveKind::kReduce, 2, kCount);
  CHECK(near(reduce[{0, 1}], kBytes / 3 * 2));
  CHECK(near(reduce[{0, 2}], kBytes / 3));
  for (const auto& [pair, bytes] : TrafficOf(CollectiveKind::kAllgather, 0, kCount)) {
    CHECK(near(bytes, 2 * kBytes));
  }
  Traffic scatter = TrafficOf(CollectiveKind::kScatter, 2, kCount);
  CHECK(near(scatter[{1, 0}], 2 * kBytes));
  CHECK(near(scatter[{0, 1}], 0));
  for (const auto& [pair, bytes] : TrafficOf(CollectiveKind::kReduceScatter, 0, kCount)) {
    CHECK(near(bytes, 2 * kBytes));
  }
  for (const auto& [pair, bytes] : TrafficOf(CollectiveKind::kAllToAll, 0, kCount)) {
    CHECK(near(bytes, 4 * kBytes));
  }
}

TEST_CASE("All nodes are told what all say, whatever their number") {
  for (size_t nodes = 1; nodes <= 32; ++nodes) {
    FakeNetwork network(nodes);
    std::vector<std::string> wrong(nodes);
    InParallel(nodes, [&](size_t node) {
      const auto mesh = network.MakeMesh(node);
      AllGather all_gather(mesh.get(), 100);
      all_gather.Post(0);
      for (uint64_t i = 0; i < 3; ++i) {
        all_gather.Post((i + 1) * AllGather::kTags);
        const std::string said(node % 7, static_cast<char>('a' + node + i));
        std::vector<Frame> frames;
        absl::Status status = all_gather.Run({.said = said, .payload = "payload"}, &frames);
        for (size_t other = 0; other < nodes && status.ok(); ++other) {
          const std::string wanted(other % 7, static_cast<char>('a' + other + i));
          if (frames[other].said != wanted || frames[other].payload != "payload") {
            status = absl::InternalError("not what was said");
          }
        }
        if (!status.ok()) wrong[node] = std::string(status.message());
      }
    });
    for (const std::string& finding : wrong) CHECK(finding == "");
    CHECK(network.violation() == "");
  }
}

}  // namespace
}  // namespace tutti
