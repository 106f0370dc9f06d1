#include "daemon/core/shape.h"

#include <catch2/catch.hpp>

#include "daemon/core/limits.h"

namespace tutti {
namespace {

using Kind = CollectiveKind;

// A request of `inputs` and `outputs` tensors of two floats each, of rank 1 with root 2.
WorkRequest Make(Kind kind, size_t inputs, size_t outputs, Rank root = 2) {
  WorkRequest request{.kind = kind, .dtype = DataType::kFloat32, .root = root};
  request.inputs.assign(inputs, {.arena = 1, .offset = 0, .length = 8});
  request.outputs.assign(outputs, {.arena = 1, .offset = 8, .length = 8});
  return request;
}

// As rank 1 of 3.
bool Fits(const WorkRequest& request) { return !CheckShape(request, 1, 3).has_value(); }

TEST_CASE("each kind takes its number of tensors, and no other") {
  struct Row {
    Kind kind;
    Rank root;
    std::vector<std::pair<size_t, size_t>> fits;
  };
  const std::vector<Row> rows = {
      {Kind::kAllreduce, 0, {{1, 1}, {2, 2}, {3, 3}}},
      {Kind::kReduce, 1, {{1, 1}, {2, 2}, {3, 3}}},
      {Kind::kReduce, 0, {{1, 0}, {2, 0}, {3, 0}}},
      {Kind::kBroadcast, 1, {{1, 0}, {1, 1}, {2, 0}, {2, 2}, {3, 0}, {3, 3}}},
      {Kind::kBroadcast, 0, {{0, 1}, {0, 2}, {0, 3}}},
      {Kind::kAllgather, 0, {{1, 3}}},
      {Kind::kGather, 1, {{1, 3}}},
      {Kind::kGather, 0, {{1, 0}}},
      {Kind::kScatter, 1, {{3, 1}}},
      {Kind::kScatter, 0, {{0, 1}}},
      {Kind::kReduceScatter, 0, {{3, 1}}},
      {Kind::kAllToAll, 0, {{3, 3}}},
      {Kind::kSend, 0, {{1, 0}}},
      {Kind::kRecv, 0, {{0, 1}}},
      {Kind::kBarrier, 0, {{0, 0}}},
  };
  for (const Row& row : rows) {
    for (size_t inputs = 0; inputs <= 3; ++inputs) {
      for (size_t outputs = 0; outputs <= 3; ++outputs) {
        INFO(NameOf(row.kind) << " root " << row.root << ": " << inputs << ", " << outputs);
        const bool fits = std::find(row.fits.begin(), row.fits.end(), std::pair(inputs, outputs)) !=
                          row.fits.end();
        CHECK(Fits(Make(row.kind, inputs, outputs, row.root)) == fits);
      }
    }
  }
}

TEST_CASE("who has the wrong number of tensors is told the right one") {
  CHECK(CheckShape(Make(Kind::kAllgather, 1, 2), 1, 3)->message ==
        "allgather of rank 1 in a group of 3 takes 1 input and 3 outputs, not 1 and 2");
  CHECK(CheckShape(Make(Kind::kAllreduce, 2, 1), 1, 3)->message ==
        "allreduce of rank 1 in a group of 3 takes one or more inputs and as many outputs, not 2 "
        "and 1");
}

TEST_CASE("a work has a bounded number of tensors") {
  CHECK(Fits(Make(Kind::kAllreduce, kSpansPerWorkMax, kSpansPerWorkMax)));
  const auto failure =
      CheckShape(Make(Kind::kAllreduce, kSpansPerWorkMax + 1, kSpansPerWorkMax + 1), 1, 3);
  REQUIRE(failure.has_value());
  CHECK(failure->cause == Cause::kLimit);
}

TEST_CASE("lengths: pairs, all alike, or free") {
  WorkRequest coalesced = Make(Kind::kAllreduce, 2, 2);
  coalesced.inputs[1].length = coalesced.outputs[1].length = 16;
  CHECK(Fits(coalesced));
  coalesced.outputs[1].length = 8;
  CHECK_FALSE(Fits(coalesced));
  WorkRequest list = Make(Kind::kReduceScatter, 3, 1);
  CHECK(Fits(list));
  list.inputs[2].length = 4;
  CHECK_FALSE(Fits(list));
  WorkRequest split = Make(Kind::kAllToAll, 3, 3);
  split.inputs[2].length = 0;
  split.outputs[0].length = 400;
  CHECK(Fits(split));
  split.outputs[0].length = 401;
  CHECK_FALSE(Fits(split));
  WorkRequest agree = Make(Kind::kAgree, 1, 1);
  agree.dtype = DataType::kBool;
  CHECK_FALSE(Fits(agree));
  agree.inputs[0].length = agree.outputs[0].length = 1;
  CHECK(Fits(agree));
}

TEST_CASE("the signature counts what all ranks have alike") {
  CHECK(SignatureOf(Make(Kind::kAllreduce, 3, 3)).count == 6);
  CHECK(SignatureOf(Make(Kind::kAllreduce, 3, 3)).parts == 3);
  CHECK(SignatureOf(Make(Kind::kBroadcast, 2, 0)) == SignatureOf(Make(Kind::kBroadcast, 0, 2)));
  CHECK(SignatureOf(Make(Kind::kGather, 1, 3)) == SignatureOf(Make(Kind::kGather, 1, 0)));
  CHECK(SignatureOf(Make(Kind::kScatter, 3, 1)) == SignatureOf(Make(Kind::kScatter, 0, 1)));
  WorkRequest split = Make(Kind::kAllToAll, 3, 3);
  split.inputs[0].length = 0;
  CHECK(SignatureOf(split) == SignatureOf(Make(Kind::kAllToAll, 3, 3)));
  CHECK(SignatureOf(Make(Kind::kReduce, 1, 1, 0)).root == 0);
  CHECK_FALSE(SignatureOf(Make(Kind::kReduce, 1, 1, 0)) ==
              SignatureOf(Make(Kind::kReduce, 1, 1, 1)));
}

TEST_CASE("what may lie on what") {
  CHECK(MayShare(Kind::kAllreduce, 1, 2, 2));
  CHECK_FALSE(MayShare(Kind::kAllreduce, 1, 2, 1));
  CHECK(MayShare(Kind::kAllgather, 1, 0, 1));
  CHECK_FALSE(MayShare(Kind::kAllgather, 1, 0, 0));
  CHECK(MayShare(Kind::kReduceScatter, 1, 1, 0));
  CHECK_FALSE(MayShare(Kind::kReduceScatter, 1, 0, 0));
  CHECK(MayShare(Kind::kAllToAll, 1, 2, 2));
}

}  // namespace
}  // namespace tutti
