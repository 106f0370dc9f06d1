// The suite that every backend passes: whatever it says it supports, it must do right.
//
// For tests. A backend's test runs all of it:
//
//   for (const Case& test : Cases(backend)) CHECK(Check(&backend, test, seed) == "");
//   CHECK(CheckAbort(&backend) == "");
//
// Findings are returned rather than asserted, so that a test can also show that planted defects are
// found. New kinds and types are added here, in Cases and in the oracle, and nowhere else.
//
// Not thread-safe; runs on the caller's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "backends/backend.h"

namespace tutti::conformance {

// Where the results go.
enum class Placement : uint8_t {
  kInPlace,
  kOutOfPlace,
  kMixed,  // in place at even ranks
};

struct Case {
  CollectiveKind kind = CollectiveKind::kNone;
  DataType dtype = DataType::kNone;
  ReduceOp op = ReduceOp::kNone;
  Rank root = 0;
  size_t count = 0;
  uint32_t world_size = 0;
  Placement placement = Placement::kInPlace;
  // NaN, infinities and -0 among the floats.
  bool special = false;
};

// "allreduce sum of 1023 float32, 4 ranks, in place".
std::string Describe(const Case& test);

// Every kind, type and operation that the backend supports, with sizes around its cases (none, one,
// odd, over 1 MiB) and 1 to 8 ranks.
std::vector<Case> Cases(const Backend& backend);

// Runs one case twice, on the same fresh random data, and checks: the result is right; it has the
// same bits at all ranks and in both runs; every byte of the outputs and no other byte was written.
// Returns what is wrong, with the case and the seed, or nothing.
std::string Check(Backend* backend, const Case& test, uint64_t seed);

// Checks that an aborted communicator stays aborted, and that a new one is not concerned. Returns
// what is wrong, or nothing.
std::string CheckAbort(Backend* backend);

}  // namespace tutti::conformance
