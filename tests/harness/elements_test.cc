#include "tests/harness/elements.h"

#include <catch2/catch.hpp>
#include <cmath>

namespace tutti {
namespace {

// `values`, written as `dtype` and read again.
std::vector<double> Through(DataType dtype, const std::vector<double>& values) {
  std::vector<std::byte> memory(values.size() * SizeOf(dtype) + 1);
  // Not aligned.
  const Elements elements{memory.data() + 1, dtype, values.size()};
  SetValues(elements, values);
  return Values(elements);
}

TEST_CASE("small integers are the same in every type") {
  for (int number = 2; number <= 11; ++number) {
    const auto dtype = static_cast<DataType>(number);
    INFO(NameOf(dtype));
    const std::vector<double> values = {0, 1, 2, 3, 100, 127};
    CHECK(Through(dtype, values) == values);
  }
  CHECK(Through(DataType::kBool, {0, 1, -3, 0.5}) == std::vector<double>{0, 1, 1, 1});
}

TEST_CASE("16 bits are rounded to the nearest, ties to even") {
  CHECK(Through(DataType::kBfloat16, {257, 258, 259, -1.5, 1e39}) ==
        std::vector<double>{256, 258, 260, -1.5, HUGE_VAL});
  CHECK(Through(DataType::kFloat16, {2049, 2050, 2051, -1.5, 65504, 65519, 65520}) ==
        std::vector<double>{2048, 2050, 2052, -1.5, 65504, 65504, HUGE_VAL});
  // Subnormal numbers, the smallest normal one, and a carry into it.
  const double least = std::ldexp(1, -24);
  CHECK(Through(DataType::kFloat16, {least, 3 * least, least / 2, 1024 * least, 1023.75 * least}) ==
        std::vector<double>{least, 3 * least, 0, 1024 * least, 1024 * least});
  CHECK(Through(DataType::kFloat16, {2047.75})[0] == 2048);
  CHECK(std::isnan(Through(DataType::kFloat16, {std::nan("")})[0]));
  CHECK(std::isnan(Through(DataType::kBfloat16, {std::nan("")})[0]));
}

TEST_CASE("integers wrap around") {
  CHECK(Through(DataType::kInt8, {-1, -128}) == std::vector<double>{-1, -128});
  CHECK(Through(DataType::kUint8, {-1}) == std::vector<double>{255});
  CHECK(Through(DataType::kUint32, {-1, 4e9}) == std::vector<double>{4294967295, 4e9});
}

TEST_CASE("a pattern is found again, and a difference in it") {
  std::vector<std::byte> memory(7);
  const Elements elements{memory.data(), DataType::kUint8, memory.size()};
  const Pattern pattern{.value = 5, .step = 2, .period = 3};
  Fill(elements, pattern);
  CHECK(Values(elements) == std::vector<double>{5, 7, 9, 5, 7, 9, 5});
  CHECK(FirstDifference(elements, pattern) == 7);
  memory[4] = std::byte{8};
  CHECK(FirstDifference(elements, pattern) == 4);
  CHECK(FirstDifference({memory.data(), DataType::kFloat64, 0}, pattern) == 0);
}

}  // namespace
}  // namespace tutti
