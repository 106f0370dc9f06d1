// The suite that every backend passes: whatever it says it supports, it must do right.
//
// For tests. A backend's test runs all of it:
//
//   for (const Case& test : Cases(backend)) CHECK(Check(&backend, test, {.seed = seed}) == "");
//   CHECK(CheckAbort(&backend) == "");
//
// Findings are returned rather than asserted, so that a test can also show that planted defects are
// found. New kinds and types are added here and in the oracle, and nowhere else.
//
// Not thread-safe; runs on the caller's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "backends/oracle.h"

namespace tutti::conformance {

// Where the results go. (Those of a transfer: elsewhere, always.)
enum class Placement : uint8_t {
  kInPlace,
  kOutOfPlace,
  kMixed,  // in place at even ranks; the root of a broadcast has no output at all
};

// What each rank brings.
enum class Layout : uint8_t {
  kOne,    // one tensor, or lists of equal ones
  kThree,  // three tensors, the second without elements (allreduce, reduce, broadcast)
  kMany,   // hundreds of tensors of all sizes that make up the count
  // Lists of tensors of any size up to the count, some of none (all_to_all).
  kUneven,
};

struct Case {
  CollectiveKind kind = CollectiveKind::kNone;
  DataType dtype = DataType::kNone;
  ReduceOp op = ReduceOp::kNone;
  Rank root = 0;
  size_t count = 0;
  uint32_t world_size = 0;
  Placement placement = Placement::kInPlace;
  Layout layout = Layout::kOne;
  // NaN, infinities, -0 and subnormals among the floats.
  bool special = false;
};

struct Options {
  uint64_t seed = 0;
  Rounding rounding = Rounding::kRankOrder;
  // Where ranks are, if that decides about the order of rounding (see oracle.h).
  std::vector<std::vector<Rank>> nodes;
};

// "allreduce sum of 1023 float32, 4 ranks, in place".
std::string Describe(const Case& test);

// Every kind, type and operation that the backend supports. What is computed depends on type,
// operation and number of ranks, and where it goes on kind, ranks, root, placement and layout. So
// these are crossed, and sizes (none, one, odd, over 1 MiB) with both, but not all with all:
//   allreduce                   every type and operation x sizes x ranks x placements
//   reduce, reduce_scatter      every type and operation once; the rest for three types
//   kinds that only copy        every type once; the rest for types of 1 and of 8 bytes
//   over 1 MiB                  2, 4 or 7 ranks; not every placement and root
//   64 MiB                      allreduce of float32, 2 ranks, in and out of place
std::vector<Case> Cases(const Backend& backend);

// Runs one case twice, on the same fresh random data, and checks: the result is right; it has the
// same bits at all ranks and in both runs; every byte of the outputs and no other byte was written.
// Returns what is wrong, with the case and the seed, or nothing.
std::string Check(Backend* backend, const Case& test, const Options& options);

// Checks that an aborted communicator stays aborted, and that a new one is not concerned. Returns
// what is wrong, or nothing.
std::string CheckAbort(Backend* backend);

}  // namespace tutti::conformance
