#include "backends/oracle.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "backends/small_float.h"

namespace tutti::conformance {
namespace {

template <typename T>
Bytes BytesOf(std::vector<T> elements) {
  Bytes bytes(elements.size() * sizeof(T));
  std::memcpy(bytes.data(), elements.data(), bytes.size());
  return bytes;
}

template <typename T>
std::string CheckOne(const ReductionSpec& spec, const std::vector<T>& ranks, T got) {
  std::vector<Bytes> inputs;
  for (const T element : ranks) inputs.push_back(BytesOf<T>({element}));
  std::vector<const Bytes*> of;
  for (const Bytes& input : inputs) of.push_back(&input);
  return CheckReduction(spec, of, BytesOf<T>({got}).data());
}

TEST_CASE("Small floats are what their definition says") {
  CHECK(Float16::Decode(0x3c00) == 1);
  CHECK(Float16::Decode(0xc000) == -2);
  CHECK(Float16::Decode(0x7bff) == 65504);
  CHECK(Float16::Decode(0x0001) == 0x1p-24);
  CHECK(Float16::Decode(0xfc00) == -INFINITY);
  CHECK(std::isnan(Float16::Decode(0x7c01)));
  CHECK(Bfloat16::Decode(0x3f80) == 1);
  CHECK(Bfloat16::Decode(0x0001) == 0x1p-133);
  for (int bits = 0; bits < 0x10000; ++bits) {
    const auto stored = static_cast<uint16_t>(bits);
    // As the upper half of a float32, bfloat16 has another definition.
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value = 0;
    std::memcpy(&value, &wide, sizeof(value));
    if (!std::isnan(value)) REQUIRE(Bfloat16::Decode(stored) == static_cast<double>(value));
    if (!std::isnan(value)) REQUIRE(Bfloat16::Encode(Bfloat16::Decode(stored)) == stored);
    if ((bits & 0x7fff) <= 0x7c00) REQUIRE(Float16::Encode(Float16::Decode(stored)) == stored);
  }
}

TEST_CASE("Small floats are rounded to nearest even") {
  CHECK(Float16::Encode(2049) == 0x6800);
  CHECK(Float16::Encode(2051) == 0x6802);
  CHECK(Float16::Encode(65519.9) == 0x7bff);
  CHECK(Float16::Encode(65520) == 0x7c00);
  CHECK(Float16::Encode(-1e10) == 0xfc00);
  CHECK(Float16::Encode(0x1p-25) == 0);
  CHECK(Float16::Encode(0x1.8p-24) == 2);
  CHECK(Float16::Encode(-0x1p-60) == 0x8000);
  CHECK(Float16::Encode(0x1.ffcp-15) == 0x0400);  // the carry into the normal ones
  CHECK(Bfloat16::Encode(257) == 0x4380);
  CHECK(Bfloat16::Encode(3.4e38) == 0x7f80);
}

TEST_CASE("The oracle demands the bits of the order of ranks, or allows for rounding") {
  ReductionSpec spec{.dtype = DataType::kFloat32, .op = ReduceOp::kSum};
  CHECK(CheckOne<float>(spec, {1e8f, 1, -1e8f}, 0) == "");
  CHECK(CheckOne<float>(spec, {1e8f, 1, -1e8f}, 1) == "element 0 is 1 and should be 0");
  CHECK(CheckOne<float>(spec, {1, 2}, NAN) != "");
  CHECK(CheckOne<float>(spec, {1, NAN}, -NAN) == "");
  spec.rounding = Rounding::kAnyOrder;
  CHECK(CheckOne<float>(spec, {1e8f, 1, -1e8f}, 1) == "");
  CHECK(CheckOne<float>(spec, {1e8f, 1, -1e8f}, 100) != "");
  CHECK(CheckOne<float>(spec, {1, 2}, INFINITY) != "");
  CHECK(CheckOne<float>(spec, {1, INFINITY}, INFINITY) == "");
  spec.op = ReduceOp::kMin;
  CHECK(CheckOne<float>(spec, {1, 2}, 1.0000001f) != "");
}

TEST_CASE("The oracle knows half floats, integers and bools") {
  const ReductionSpec half{.dtype = DataType::kFloat16, .op = ReduceOp::kSum};
  CHECK(CheckOne<uint16_t>(half, {0x6800, 0x3c00, 0x3c00}, 0x6801) == "");
  CHECK(CheckOne<uint16_t>(half, {0x6800, 0x3c00, 0x3c00}, 0x6800) != "");
  const ReductionSpec any_order{
      .dtype = DataType::kFloat16, .op = ReduceOp::kSum, .rounding = Rounding::kAnyOrder};
  CHECK(CheckOne<uint16_t>(any_order, {0x6800, 0x3c00, 0x3c00}, 0x6800) == "");
  CHECK(CheckOne<uint16_t>(any_order, {0x6800, 0x3c00, 0x3c00}, 0x6810) != "");
  const ReductionSpec bytes{.dtype = DataType::kInt8, .op = ReduceOp::kAvg};
  CHECK(CheckOne<int8_t>(bytes, {127, 2}, -63) == "");
  CHECK(CheckOne<int8_t>(bytes, {127, 2}, 64) == "element 0 is 64 and should be -63");
  const ReductionSpec all{.dtype = DataType::kBool, .op = ReduceOp::kMin};
  CHECK(CheckOne<uint8_t>(all, {2, 4}, 1) == "");
  CHECK(CheckOne<uint8_t>(all, {2, 4}, 2) == "element 0 is 2 and should be 1");
}

}  // namespace
}  // namespace tutti::conformance
