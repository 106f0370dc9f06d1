#include "base/failure.h"

#include <catch2/catch.hpp>
#include <memory>
#include <set>
#include <string>

#include "base/result.h"

namespace tutti {
namespace {

TEST_CASE("Ranks are told as people would") {
  CHECK(DescribeRanks({}) == "no rank");
  CHECK(DescribeRanks({3}) == "rank 3");
  CHECK(DescribeRanks({0, 1}) == "ranks 0, 1");
  CHECK(DescribeRanks({0, 1, 2}) == "ranks 0-2");
  CHECK(DescribeRanks({0, 2, 4}) == "ranks 0, 2, 4");
  CHECK(DescribeRanks({0, 1, 2, 3, 4, 5, 6, 9}) == "ranks 0-6, 9");
  CHECK(DescribeRanks({1, 3, 4, 6, 7, 8, 4294967294, 4294967295}) ==
        "ranks 1, 3, 4, 6-8, 4294967294, 4294967295");
}

TEST_CASE("Every cause has a name and the code of design.md's table") {
  std::set<std::string> names;
  constexpr int kCauses = static_cast<int>(Cause::kInternal) + 1;
  for (int i = 0; i < kCauses; ++i) {
    const Cause cause = static_cast<Cause>(i);
    names.insert(std::string(NameOf(cause)));
    CHECK(CodeOf(cause) != absl::StatusCode::kOk);
    CHECK(CodeOf(cause) != absl::StatusCode::kUnknown);
  }
  CHECK(names.size() == kCauses);
  CHECK(names.count("?") == 0);
  CHECK(CodeOf(Cause::kRankDied) == absl::StatusCode::kAborted);
  CHECK(CodeOf(Cause::kMismatch) == absl::StatusCode::kFailedPrecondition);
  CHECK(CodeOf(Cause::kDeadline) == absl::StatusCode::kDeadlineExceeded);
  CHECK(CodeOf(Cause::kLimit) == absl::StatusCode::kResourceExhausted);
  CHECK(CodeOf(Cause::kDraining) == absl::StatusCode::kUnavailable);
  CHECK(CodeOf(Cause::kNodeLost) == absl::StatusCode::kUnavailable);
  CHECK(CodeOf(Cause::kSeatTaken) == absl::StatusCode::kAlreadyExists);
}

TEST_CASE("A failure becomes a status, and a result is one or the other") {
  const Failure failure{.cause = Cause::kRankDied, .message = "rank 3 died", .culprits = {3}};
  CHECK(failure.ToStatus() == absl::AbortedError("rank 3 died"));

  const Result<int> bad = failure;
  CHECK(!bad.ok());
  CHECK(bad.failure() == failure);

  Result<std::unique_ptr<int>> good = std::make_unique<int>(5);
  REQUIRE(good.ok());
  CHECK(**good == 5);
  const std::unique_ptr<int> moved = std::move(*good);
  CHECK(*moved == 5);
}

}  // namespace
}  // namespace tutti
