#include "base/types.h"

#include <catch2/catch.hpp>
#include <set>
#include <string>

namespace tutti {
namespace {

// The names of all values from 0 on; the first one beyond them has none.
template <typename Enum>
std::set<std::string> Names(Enum last) {
  std::set<std::string> names;
  const int count = static_cast<int>(last) + 1;
  for (int i = 0; i < count; ++i) names.insert(NameOf(static_cast<Enum>(i)));
  CHECK(names.size() == static_cast<size_t>(count));
  CHECK(names.count("?") == 0);
  CHECK(std::string(NameOf(static_cast<Enum>(count))) == "?");
  return names;
}

TEST_CASE("Every value has a name of its own") {
  CHECK(Names(DataType::kFloat64).count("bfloat16") == 1);
  CHECK(Names(ReduceOp::kAvg).count("product") == 1);
  CHECK(Names(CollectiveKind::kAgree).count("reduce_scatter") == 1);
  CHECK(std::string(NameOf(DataType::kFloat32)) == "float32");
  CHECK(std::string(NameOf(ReduceOp::kSum)) == "sum");
  CHECK(std::string(NameOf(CollectiveKind::kAllreduce)) == "allreduce");
}

TEST_CASE("Sizes are those of the types") {
  CHECK(SizeOf(DataType::kNone) == 0);
  CHECK(SizeOf(DataType::kBool) == 1);
  CHECK(SizeOf(DataType::kUint8) == 1);
  CHECK(SizeOf(DataType::kInt8) == 1);
  CHECK(SizeOf(DataType::kInt32) == 4);
  CHECK(SizeOf(DataType::kUint32) == 4);
  CHECK(SizeOf(DataType::kInt64) == 8);
  CHECK(SizeOf(DataType::kUint64) == 8);
  CHECK(SizeOf(DataType::kFloat16) == 2);
  CHECK(SizeOf(DataType::kBfloat16) == 2);
  CHECK(SizeOf(DataType::kFloat32) == 4);
  CHECK(SizeOf(DataType::kFloat64) == 8);
  CHECK(SizeOf(static_cast<DataType>(200)) == 0);
}

TEST_CASE("Kinds fall into classes") {
  using K = CollectiveKind;
  const std::set<K> reduce{K::kAllreduce, K::kReduce, K::kReduceScatter};
  const std::set<K> rooted{K::kReduce, K::kBroadcast, K::kGather, K::kScatter};
  const std::set<K> pairwise{K::kSend, K::kRecv};
  for (int i = 0; i <= static_cast<int>(K::kBarrier); ++i) {
    const K kind = static_cast<K>(i);
    INFO(NameOf(kind));
    CHECK(Reduces(kind) == (reduce.count(kind) == 1));
    CHECK(IsRooted(kind) == (rooted.count(kind) == 1));
    CHECK(IsPairwise(kind) == (pairwise.count(kind) == 1));
  }
}

}  // namespace
}  // namespace tutti
