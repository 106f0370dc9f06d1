#include "proto/convert.h"

#include <google/protobuf/descriptor.h>

#include <catch2/catch.hpp>
#include <set>
#include <string>
#include <string_view>

namespace tutti {
namespace {

// Every number of the wire's enum, known to us or not, from below to above.
template <typename Wire, typename Check>
void ForEachNumber(int max, Check check) {
  for (int number = -2; number <= max + 2; ++number) check(static_cast<Wire>(number), number);
}

// What both directions promise, for each of the four enums.
template <typename Wire>
void CheckEnum(int max) {
  std::set<int> known;
  ForEachNumber<Wire>(max, [&](Wire wire, int number) {
    const auto ours = FromProto(wire);
    INFO("number " << number);
    CHECK(ours.has_value() == (number >= 0 && number <= max));
    if (!ours.has_value()) return;
    CHECK(static_cast<int>(ToProto(*ours)) == number);
    known.insert(number);
  });
  CHECK(known.size() == static_cast<size_t>(max) + 1);
}

TEST_CASE("every value of an enum survives the way there and back, and no other number passes") {
  CheckEnum<v1::DataType>(v1::DataType_MAX);
  CheckEnum<v1::ReduceOp>(v1::ReduceOp_MAX);
  CheckEnum<v1::CollectiveKind>(v1::CollectiveKind_MAX);
  CheckEnum<v1::Cause>(v1::Cause_MAX);
}

TEST_CASE("numbers far outside are refused") {
  CHECK_FALSE(FromProto(static_cast<v1::DataType>(10 + 256)).has_value());
  CHECK_FALSE(FromProto(static_cast<v1::ReduceOp>(1 + 256)).has_value());
  CHECK_FALSE(FromProto(static_cast<v1::CollectiveKind>(1 + 256)).has_value());
  CHECK_FALSE(FromProto(static_cast<v1::Cause>(1 + 256)).has_value());
}

// The names on the wire and ours come from two lists; people see both.
TEST_CASE("causes have the same names on both sides") {
  for (int number = 0; number <= v1::Cause_MAX; ++number) {
    const std::string wire = v1::Cause_Name(static_cast<v1::Cause>(number));
    CHECK(wire == "CAUSE_" + std::string(NameOf(static_cast<Cause>(number))));
  }
}

TEST_CASE("a failure survives the way there and back") {
  const Failure failure{.cause = Cause::kRankDied,
                        .message = "rank 2 of group \"dp\" died",
                        .group = "dp",
                        .epoch = 7,
                        .culprits = {2, 5},
                        .missing = {0, 70000},
                        .sequence = uint64_t{1} << 40};
  const v1::Failure wire = ToProto(failure);
  CHECK(wire.code() == static_cast<int>(absl::StatusCode::kAborted));
  CHECK(FromProto(wire) == failure);
}

TEST_CASE("the code on the wire is the cause's") {
  for (int number = 0; number <= v1::Cause_MAX; ++number) {
    const Failure failure{.cause = static_cast<Cause>(number)};
    CHECK(ToProto(failure).code() == static_cast<int>(CodeOf(failure.cause)));
  }
}

TEST_CASE("a cause from a newer peer becomes unspecified, and the rest is kept") {
  v1::Failure wire;
  wire.set_cause(static_cast<v1::Cause>(v1::Cause_MAX + 1));
  wire.set_message("something new");
  const Failure failure = FromProto(wire);
  CHECK(failure.cause == Cause::kUnspecified);
  CHECK(failure.message == "something new");
}

}  // namespace
}  // namespace tutti
