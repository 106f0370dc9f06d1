// The words of nodes: what they carry, and what all nodes make of them.
#include "daemon/core/agree.h"

#include <catch2/catch.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {
namespace {

using Catch::Contains;

Words Sum(uint64_t count) {
  Words words{.sequence = 7};
  words.signature.kind = CollectiveKind::kAllreduce;
  words.signature.dtype = DataType::kFloat32;
  words.signature.op = ReduceOp::kSum;
  words.signature.parts = 1;
  words.signature.count = count;
  return words;
}

Words Refusal(const std::string& why, bool last) {
  Words words = Sum(0);
  words.refusal = Failure{.cause = Cause::kInvalid, .message = why, .culprits = {2}};
  words.last = last;
  return words;
}

// What three nodes decide that say this; the same at each of them.
std::optional<Failure> Verdict(const std::vector<Words>& all, bool* last = nullptr) {
  std::vector<std::string> kept;
  for (const Words& words : all) kept.push_back(Encode(words));
  const std::vector<std::string_view> said(kept.begin(), kept.end());
  std::vector<NodeRanks> nodes{{"a", {0, 3}}, {"b", {1}}, {"c", {2}}};
  std::optional<Failure> first;
  for (size_t node = 0; node < all.size(); ++node) {
    NodeAgreement agreement("dp", 1, nodes, all[node]);
    CHECK(agreement.mine() == said[node]);
    const bool agreed = agreement.Decide(said);
    CHECK(agreed == !agreement.verdict().has_value());
    if (node == 0) first = agreement.verdict();
    CHECK(agreement.verdict() == first);
    if (last != nullptr) *last = agreement.last();
  }
  return first;
}

TEST_CASE("words arrive as they were said, and nothing else is taken for words") {
  const std::string said = Encode(Refusal("no such arena", true));
  const auto words = Decode(said);
  REQUIRE(words.has_value());
  CHECK(words->sequence == 7);
  CHECK(words->last);
  CHECK(words->refusal->message == "no such arena");
  CHECK(words->refusal->culprits == std::vector<Rank>{2});
  for (size_t size = 0; size < said.size(); ++size) {
    CHECK_FALSE(Decode(std::string_view(said).substr(0, size)).has_value());
  }
  CHECK_FALSE(Decode(said + "x").has_value());
  std::string other = said;
  other[0] = 'x';
  CHECK_FALSE(Decode(other).has_value());
}

TEST_CASE("what is said has a bound, however much there is to say") {
  Words words = Refusal(std::string(100'000, 'x'), false);
  words.refusal->culprits.assign(10'000, 1);
  CHECK(Encode(words).size() <= kSaidBytesMax);
  CHECK(Decode(Encode(words)).has_value());
}

TEST_CASE("nodes that say the same agree") {
  CHECK_FALSE(Verdict({Sum(10), Sum(10), Sum(10)}).has_value());
}

TEST_CASE("nodes that differ are told both sides; culprits are the fewer ranks") {
  const auto verdict = Verdict({Sum(10), Sum(10), Sum(9)});
  REQUIRE(verdict.has_value());
  CHECK(verdict->cause == Cause::kMismatch);
  CHECK(verdict->culprits == std::vector<Rank>{2});
  CHECK(verdict->sequence == 7);
  CHECK_THAT(verdict->message,
             Contains("allreduce #7 on \"dp\" (epoch 1): ranks disagree on element "
                      "count (ranks 0, 1, 3: allreduce sum of 10 float32; rank 2: "
                      "allreduce sum of 9 float32)"));
}

TEST_CASE("lengths of several tensors count, though their sum is the same") {
  Words other = Sum(10);
  other.lengths = 1;
  const auto verdict = Verdict({Sum(10), other, Sum(10)});
  REQUIRE(verdict.has_value());
  CHECK_THAT(verdict->message, Contains("the element counts of the tensors"));
}

TEST_CASE("a refusal is everybody's verdict; that it is the last counts more") {
  bool last = false;
  CHECK(Verdict({Sum(10), Refusal("too long", false), Sum(10)}, &last)->message == "too long");
  CHECK_FALSE(last);
  const auto verdict =
      Verdict({Refusal("too long", false), Sum(10), Refusal("rank 2 left", true)}, &last);
  CHECK(verdict->message == "rank 2 left");
  CHECK(last);
}

TEST_CASE("nodes at different places do not go on") {
  Words ahead = Sum(10);
  ahead.sequence = 8;
  std::vector<std::string> kept{Encode(Sum(10)), Encode(ahead)};
  NodeAgreement agreement("dp", 1, {{"a", {0}}, {"b", {1}}}, Sum(10));
  CHECK_FALSE(agreement.Decide({kept[0], kept[1]}));
  CHECK(agreement.verdict()->cause == Cause::kInternal);
}

}  // namespace
}  // namespace tutti
