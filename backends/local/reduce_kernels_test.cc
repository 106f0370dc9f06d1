#include "backends/local/reduce_kernels.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>

namespace tutti {
namespace {

constexpr DataType DataTypeOf(float) { return DataType::kFloat32; }
constexpr DataType DataTypeOf(double) { return DataType::kFloat64; }
constexpr DataType DataTypeOf(int32_t) { return DataType::kInt32; }
constexpr DataType DataTypeOf(int64_t) { return DataType::kInt64; }

// One element per rank.
template <typename T>
T Reduce(ReduceOp op, std::vector<T> elements) {
  ReduceBuffers buffers{.divisor = static_cast<uint32_t>(elements.size())};
  for (T& element : elements) buffers.inputs.push_back(reinterpret_cast<std::byte*>(&element));
  T result{};
  buffers.outputs = {reinterpret_cast<std::byte*>(&result)};
  FindReduceKernel(DataTypeOf(T{}), op)(buffers, 0, 1);
  return result;
}

TEST_CASE("Integers wrap, and their average is divided with truncation") {
  constexpr int32_t kMax = std::numeric_limits<int32_t>::max();
  constexpr int32_t kMin = std::numeric_limits<int32_t>::min();
  CHECK(Reduce<int32_t>(ReduceOp::kSum, {kMax, 1}) == kMin);
  CHECK(Reduce<int32_t>(ReduceOp::kProduct, {kMin, -1}) == kMin);
  CHECK(Reduce<int32_t>(ReduceOp::kProduct, {65536, 65537}) == 65536);
  CHECK(Reduce<int32_t>(ReduceOp::kAvg, {-3, -4}) == -3);
  CHECK(Reduce<int32_t>(ReduceOp::kAvg, {3, 4}) == 3);
  CHECK(Reduce<int32_t>(ReduceOp::kAvg, {kMax, 1}) == kMin / 2);
  CHECK(Reduce<int32_t>(ReduceOp::kMin, {2, kMin, 1}) == kMin);
  CHECK(Reduce<int32_t>(ReduceOp::kMax, {-2, -1, -3}) == -1);
  constexpr int64_t kMax64 = std::numeric_limits<int64_t>::max();
  CHECK(Reduce<int64_t>(ReduceOp::kSum, {kMax64, kMax64}) == -2);
  CHECK(Reduce<int64_t>(ReduceOp::kAvg, {std::numeric_limits<int64_t>::min()}) ==
        std::numeric_limits<int64_t>::min());
}

TEMPLATE_TEST_CASE("Floats: NaN wins in min and max wherever it is", "", float, double) {
  const TestType nan = std::numeric_limits<TestType>::quiet_NaN();
  const TestType inf = std::numeric_limits<TestType>::infinity();
  for (const ReduceOp op : {ReduceOp::kMin, ReduceOp::kMax}) {
    for (size_t ranks : {1, 2, 3, 4, 5, 8, 9}) {
      for (size_t at = 0; at < ranks; ++at) {
        std::vector<TestType> elements(ranks, inf);
        elements[at] = nan;
        CHECK(std::isnan(Reduce<TestType>(op, elements)));
      }
    }
  }
  CHECK(Reduce<TestType>(ReduceOp::kMin, {1, -inf, 2}) == -inf);
  CHECK(Reduce<TestType>(ReduceOp::kMax, {1, inf, 2}) == inf);
  CHECK(Reduce<TestType>(ReduceOp::kAvg, {1, 2}) == TestType{1.5});
  CHECK(Reduce<TestType>(ReduceOp::kAvg, {1, 0, 0}) == TestType{1} / TestType{3});
}

TEST_CASE("Elements are combined in the order of the ranks, wherever a range begins or ends") {
  constexpr size_t kCount = 10'007;  // several blocks, and an odd rest
  constexpr size_t kRanks = 11;      // two groups of four, and a rest of three
  std::vector<std::vector<float>> inputs(kRanks, std::vector<float>(kCount));
  ReduceBuffers buffers;
  for (size_t rank = 0; rank < kRanks; ++rank) {
    for (size_t i = 0; i < kCount; ++i) {
      inputs[rank][i] = std::sin(static_cast<float>(i * 31 + rank * 17)) *
                        std::pow(10.0f, static_cast<float>((i + rank) % 9) - 4);
    }
    buffers.inputs.push_back(reinterpret_cast<std::byte*>(inputs[rank].data()));
  }
  std::vector<float> want(kCount);
  for (size_t i = 0; i < kCount; ++i) {
    volatile float sum = inputs[0][i];  // volatile: rounded to float after each step
    for (size_t rank = 1; rank < kRanks; ++rank) sum = sum + inputs[rank][i];
    want[i] = sum;
  }
  for (const size_t range : {size_t{1}, size_t{7}, size_t{4096}, kCount}) {
    std::vector<float> got(kCount);
    buffers.outputs = {reinterpret_cast<std::byte*>(got.data())};
    for (size_t first = 0; first < kCount; first += range) {
      FindReduceKernel(DataType::kFloat32, ReduceOp::kSum)(buffers, first,
                                                           std::min(range, kCount - first));
    }
    CHECK(std::memcmp(got.data(), want.data(), kCount * sizeof(float)) == 0);
  }
}

TEST_CASE("There are kernels for what is supported, and null for the rest") {
  CHECK(FindReduceKernel(DataType::kFloat32, ReduceOp::kNone) == nullptr);
  CHECK(FindReduceKernel(DataType::kFloat16, ReduceOp::kSum) == nullptr);
  CHECK(FindReduceKernel(DataType::kNone, ReduceOp::kSum) == nullptr);
}

TEST_CASE("CopyToAll copies its range and nothing else") {
  std::vector<std::byte> source(50'000);
  for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 7 % 251);
  std::vector<std::byte> a(source.size()), b(source.size());
  CopyToAll(source.data(), {a.data(), b.data()}, 3, 40'000);
  for (const auto& copy : {a, b}) {
    CHECK(std::equal(source.begin() + 3, source.begin() + 40'003, copy.begin() + 3));
    CHECK((copy[0] == std::byte{0} && copy[2] == std::byte{0} && copy[40'003] == std::byte{0}));
  }
}

}  // namespace
}  // namespace tutti
