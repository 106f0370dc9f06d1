#include <catch2/catch.hpp>
#include <cstring>
#include <iostream>
#include <random>

#include "backends/conformance.h"
#include "backends/local/local_backend.h"
#include "backends/testing/find_defect.h"
#include "base/worker_pool.h"

namespace tutti {
namespace {

using conformance::Case;
using conformance::Check;
using conformance::FindDefect;
using conformance::Of;
using conformance::Placement;

constexpr size_t kThreads = 2;

TEST_CASE("The local backend passes the conformance suite") {
  const uint64_t seed = std::random_device()();
  std::cout << "seed " << seed << std::endl;
  WorkerPool pool("test", kThreads);
  LocalBackend backend(&pool, kThreads);
  const std::vector<Case> cases = conformance::Cases(backend);
  std::cout << cases.size() << " cases" << std::endl;
  CHECK(cases.size() > 5000);
  for (const Case& test : cases) REQUIRE(Check(&backend, test, {.seed = seed}) == "");
  CHECK(conformance::CheckAbort(&backend) == "");
}

TEST_CASE("So it does with the kernels of older processors") {
  const uint64_t seed = std::random_device()();
  std::cout << "seed " << seed << std::endl;
  WorkerPool pool("test", kThreads);
  for (const KernelTable* const kernels : {&kSse2Kernels, &kAvx2Kernels}) {
    if (!CanRun(*kernels)) continue;
    LocalBackend backend(&pool, kThreads, *kernels);
    // kernels_test compares their bits for every type and operation; here every eleventh will do.
    const std::vector<Case> cases = conformance::Cases(backend);
    for (size_t i = seed % 11; i < cases.size(); i += 11) {
      REQUIRE(Check(&backend, cases[i], {.seed = seed}) == "");
    }
  }
}

TEST_CASE("The suite finds planted defects") {
  if (!kFailpointsBuiltIn) return;
  const Case allreduce{.kind = CollectiveKind::kAllreduce,
                       .dtype = DataType::kFloat32,
                       .op = ReduceOp::kSum,
                       .count = 1023,
                       .world_size = 4};
  WorkerPool pool("test", kThreads);
  LocalBackend backend(&pool, kThreads);
  const auto find = [&](const char* defect, const Case& test, uint32_t from_hit = 1) {
    return FindDefect(&backend, defect, test, from_hit);
  };
  const auto other = [&](CollectiveKind kind, Placement placement) {
    return Of(kind, placement, allreduce);
  };
  // Right in the first run, wrong in the second: an oracle that allows for rounding would pass it.
  CHECK(find("local.wrong_order", allreduce, 2) == "seed 1: rank 0: two runs gave different bits");
  CHECK(find("local.wrong_order", other(CollectiveKind::kReduceScatter, Placement::kOutOfPlace))
            .find("should be") != std::string::npos);
  CHECK(find("local.skip_output", other(CollectiveKind::kAllgather, Placement::kOutOfPlace)) ==
        "seed 1: rank 3, output 0: other bits than a rank before it");
  CHECK(find("local.skip_output", other(CollectiveKind::kScatter, Placement::kInPlace)) ==
        "seed 1: rank 1, output 0: not what rank 0 had");
  CHECK(find("local.lose_exchange", other(CollectiveKind::kAllToAll, Placement::kInPlace)) ==
        "seed 1: rank 0, output 1: not what rank 1 had");
  CHECK(find("local.write_too_much", other(CollectiveKind::kSend, Placement::kOutOfPlace)) ==
        "seed 1: rank 1: bytes outside the buffer were written");
  Case large = other(CollectiveKind::kBroadcast, Placement::kOutOfPlace);
  large.count = 1'000'003;
  CHECK(find("local.skip_last_chunk", large).find("not what rank 0 had") != std::string::npos);
}

}  // namespace
}  // namespace tutti
