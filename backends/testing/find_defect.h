// Whether the conformance suite finds a defect that is planted in a backend (base/failpoint.h).
//
// For tests, on the thread that runs them.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>

#include "backends/conformance.h"
#include "base/failpoint.h"

namespace tutti::conformance {

// What the suite says of `test` while the backend has the defect, from its `from_hit`-th chance on:
// "seed 1: what is wrong", or nothing. Fails the test if something is wrong without the defect.
inline std::string FindDefect(Backend* backend, const char* defect, const Case& test,
                              uint32_t from_hit = 1, Options options = {}) {
  options.seed = 1;
  REQUIRE(Check(backend, test, options) == "");
  SetFailpoint(defect, FailpointAction::kMutate, from_hit);
  std::string finding = Check(backend, test, options);
  SetFailpoint(defect, FailpointAction::kOff, 0);
  CHECK(Check(backend, test, options) == "");
  return finding.substr(std::min(finding.size(), finding.find("seed 1: ")));
}

// `test` of another kind, which may be one that does not reduce.
inline Case Of(CollectiveKind kind, Placement placement, Case test) {
  test.kind = kind;
  if (!Reduces(kind)) test.op = ReduceOp::kNone;
  test.placement = placement;
  return test;
}

}  // namespace tutti::conformance
