// How long an allreduce over several nodes takes, next to Gloo's own with one rank per node, which
// neither agrees on anything nor combines what several ranks have. All nodes are threads of this
// process and reach each other over loopback.
//
//   bazel run --config=release //tests/bench:mesh_bench [small_KiB [step_KiB [from_KiB]]]
#include <gloo/allreduce.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/hash_store.h>
#include <gloo/transport/tcp/device.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#include "backends/gloo/gloo_backend.h"
#include "backends/gloo/testing/multi_node.h"
#include "base/check.h"
#include "base/clock.h"

namespace tutti {
namespace {

using Memory = std::vector<std::vector<float>>;

// Seconds per call of `run` on all nodes at once: the best of some rounds.
double Measure(size_t nodes, size_t bytes, const std::function<void(size_t node)>& run) {
  const RealClock clock;
  const size_t calls = std::clamp(size_t{128'000'000} / (bytes + 64'000), size_t{3}, size_t{300});
  double best = 1e9;
  for (int round = 0; round < 5; ++round) {
    Meeting start(nodes);
    std::vector<double> seconds(nodes);
    InParallel(nodes, [&](size_t node) {
      run(node);
      start.Meet(node, "");
      const MonotonicTime begin = clock.Now();
      for (size_t i = 0; i < calls; ++i) run(node);
      seconds[node] = absl::ToDoubleSeconds(clock.Now() - begin) / static_cast<double>(calls);
    });
    best = std::min(best, *std::max_element(seconds.begin(), seconds.end()));
  }
  return best;
}

// Gloo's contexts, by node.
std::vector<std::shared_ptr<gloo::Context>> ConnectGloo(size_t nodes) {
  std::shared_ptr<gloo::transport::Device> device =
      gloo::transport::tcp::CreateDevice(gloo::transport::tcp::attr("127.0.0.1"));
  gloo::rendezvous::HashStore store;
  std::vector<std::shared_ptr<gloo::Context>> contexts(nodes);
  InParallel(nodes, [&](size_t node) {
    auto context = std::make_shared<gloo::rendezvous::Context>(static_cast<int>(node),
                                                               static_cast<int>(nodes));
    context->connectFullMesh(store, device);
    contexts[node] = context;
  });
  return contexts;
}

double MeasureGloo(const std::vector<std::shared_ptr<gloo::Context>>& contexts, Memory* memory) {
  const size_t count = memory->front().size();
  return Measure(contexts.size(), count * sizeof(float), [&](size_t node) {
    gloo::AllreduceOptions options(contexts[node]);
    options.setOutput((*memory)[node].data(), count);
    options.setReduceFunction(
        static_cast<void (*)(void*, const void*, const void*, size_t)>(&gloo::sum<float>));
    gloo::allreduce(options);
  });
}

double MeasureOurs(Cluster* cluster, Memory* memory) {
  const size_t nodes = cluster->nodes().size();
  const size_t ranks = memory->size();
  const size_t count = memory->front().size();
  Collective collective{.kind = CollectiveKind::kAllreduce,
                        .dtype = DataType::kFloat32,
                        .op = ReduceOp::kSum,
                        .count = count,
                        .world_size = static_cast<uint32_t>(ranks)};
  for (Rank rank = 0; rank < ranks; ++rank) {
    const Buffer tensor{.data = reinterpret_cast<std::byte*>((*memory)[rank].data()),
                        .size_bytes = count * sizeof(float)};
    collective.participants.push_back({.rank = rank, .inputs = {tensor}, .outputs = {tensor}});
  }
  return Measure(nodes, count * sizeof(float), [&](size_t node) {
    SameWords agreement("allreduce");
    TUTTI_CHECK(cluster->at(node).Run(cluster->PartOf(collective, node, &agreement)).ok());
  });
}

void Compare(size_t nodes, const MeshTuning& tuning, size_t from_bytes) {
  GlooBackend backend("127.0.0.1", tuning);
  const auto contexts = ConnectGloo(nodes);
  const auto connect = [&](const GroupSpec& spec) { return backend.Connect(spec); };
  const auto one = Cluster::Make(Consecutive(std::vector<size_t>(nodes, 1)), connect);
  const auto two = Cluster::Make(Consecutive(std::vector<size_t>(nodes, 2)), connect);
  TUTTI_CHECK(one.ok() && two.ok());
  std::printf("%zu nodes %10s %22s %22s %22s\n", nodes, "KiB", "gloo us (GB/s)", "ours us (GB/s)",
              "ours, 2 ranks per node");
  for (size_t bytes = from_bytes; bytes <= 64 << 20; bytes *= 4) {
    const auto print = [&](double seconds) {
      std::printf(" %12.1f (%7.3f)", seconds * 1e6, static_cast<double>(bytes) / seconds * 1e-9);
      std::fflush(stdout);
    };
    Memory memory(2 * nodes, std::vector<float>(bytes / sizeof(float)));
    std::printf("%18zu", bytes >> 10);
    print(MeasureGloo(contexts, &memory));
    memory.resize(nodes);
    print(MeasureOurs(one->get(), &memory));
    memory.resize(2 * nodes, memory[0]);
    print(MeasureOurs(two->get(), &memory));
    std::printf("\n");
  }
}

}  // namespace
}  // namespace tutti

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  tutti::MeshTuning tuning;
  if (argc > 1) tuning.small_bytes = std::strtoul(argv[1], nullptr, 10) << 10;
  if (argc > 2) tuning.step_bytes = std::strtoul(argv[2], nullptr, 10) << 10;
  const size_t from_bytes = (argc > 3 ? std::strtoul(argv[3], nullptr, 10) : 1) << 10;
  for (const size_t nodes : {2, 3}) tutti::Compare(nodes, tuning, from_bytes);
}
