#include "backends/local/kernels.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "backends/oracle.h"

namespace tutti {
namespace {

using conformance::Bytes;
using conformance::CheckReduction;
using conformance::RandomData;

std::vector<const KernelTable*> Variants() {
  std::vector<const KernelTable*> variants;
  for (const KernelTable* const table : {&kSse2Kernels, &kAvx2Kernels, &kAvx512Kernels}) {
    if (CanRun(*table)) variants.push_back(table);
  }
  return variants;
}

ReduceKernel Find(const KernelTable& table, DataType dtype, ReduceOp op) {
  return table.reduce[static_cast<size_t>(dtype)][static_cast<size_t>(op)];
}

constexpr DataType DataTypeOf(float) { return DataType::kFloat32; }
constexpr DataType DataTypeOf(double) { return DataType::kFloat64; }
constexpr DataType DataTypeOf(int8_t) { return DataType::kInt8; }
constexpr DataType DataTypeOf(uint8_t) { return DataType::kUint8; }
constexpr DataType DataTypeOf(int32_t) { return DataType::kInt32; }
constexpr DataType DataTypeOf(uint32_t) { return DataType::kUint32; }
constexpr DataType DataTypeOf(int64_t) { return DataType::kInt64; }
constexpr DataType DataTypeOf(uint64_t) { return DataType::kUint64; }

// One element per rank, by all variants, which must agree.
template <typename T>
T Reduce(ReduceOp op, std::vector<T> elements, DataType dtype = DataTypeOf(T{})) {
  std::vector<const std::byte*> inputs;
  for (T& element : elements) inputs.push_back(reinterpret_cast<std::byte*>(&element));
  T first{};
  for (const KernelTable* const table : Variants()) {
    T result{};
    auto* const output = reinterpret_cast<std::byte*>(&result);
    Find(*table, dtype, op)({.inputs = inputs.data(),
                             .input_count = inputs.size(),
                             .outputs = &output,
                             .output_count = 1,
                             .count = 1,
                             .divisor = static_cast<uint32_t>(elements.size())});
    if (table == Variants().front()) first = result;
    CHECK(std::memcmp(&first, &result, sizeof(T)) == 0);
  }
  return first;
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
  CHECK(Reduce<int64_t>(ReduceOp::kAvg, {-7, 0}) == -3);
  CHECK(Reduce<int64_t>(ReduceOp::kAvg, {std::numeric_limits<int64_t>::min()}) ==
        std::numeric_limits<int64_t>::min());
}

TEST_CASE("Small and unsigned integers wrap in their own type") {
  CHECK(Reduce<int8_t>(ReduceOp::kSum, {127, 1}) == -128);
  CHECK(Reduce<int8_t>(ReduceOp::kAvg, {127, 2}) == -63);
  CHECK(Reduce<int8_t>(ReduceOp::kProduct, {16, 9}) == -112);
  CHECK(Reduce<int8_t>(ReduceOp::kMin, {1, -1}) == -1);
  CHECK(Reduce<uint8_t>(ReduceOp::kSum, {255, 3}) == 2);
  CHECK(Reduce<uint8_t>(ReduceOp::kAvg, {200, 100}) == 22);
  CHECK(Reduce<uint8_t>(ReduceOp::kAvg, {255, 0, 0}) == 85);
  CHECK(Reduce<uint8_t>(ReduceOp::kMax, {127, 128}) == 128);
  CHECK(Reduce<uint32_t>(ReduceOp::kAvg, {0xffffffff, 0}) == 0x7fffffff);
  CHECK(Reduce<uint32_t>(ReduceOp::kMin, {0x80000000, 1}) == 1);
  CHECK(Reduce<uint64_t>(ReduceOp::kAvg, {~uint64_t{0} - 1, 1}) == ~uint64_t{0} / 2);
  CHECK(Reduce<uint64_t>(ReduceOp::kMax, {uint64_t{1} << 63, 1}) == uint64_t{1} << 63);
}

TEST_CASE("The average of integers is never rounded up") {
  // Quotients just under an integer, where a float too narrow would round.
  for (const uint32_t divisor : {2u, 3u, 7u, 255u, 1000u, 65537u}) {
    for (const uint64_t quotient : {1u, 2u, 85u, 4'000'000'000u / divisor}) {
      const auto element = static_cast<uint32_t>(quotient * divisor - 1);
      uint32_t result = 0;
      const auto* const input = reinterpret_cast<const std::byte*>(&element);
      auto* const output = reinterpret_cast<std::byte*>(&result);
      for (const KernelTable* const table : Variants()) {
        Find(*table, DataType::kUint32, ReduceOp::kAvg)({.inputs = &input,
                                                         .input_count = 1,
                                                         .outputs = &output,
                                                         .output_count = 1,
                                                         .count = 1,
                                                         .divisor = divisor});
        CHECK(result == element / divisor);
      }
    }
  }
}

TEST_CASE("Any byte but 0 is true") {
  const auto reduce = [](ReduceOp op, std::vector<uint8_t> elements) {
    return Reduce<uint8_t>(op, std::move(elements), DataType::kBool);
  };
  for (const ReduceOp any : {ReduceOp::kSum, ReduceOp::kMax}) {
    CHECK(reduce(any, {0, 0, 2}) == 1);
    CHECK(reduce(any, {0, 0}) == 0);
    CHECK(reduce(any, {128, 128}) == 1);
    CHECK(reduce(any, {0x40}) == 1);
  }
  for (const ReduceOp all : {ReduceOp::kProduct, ReduceOp::kMin}) {
    CHECK(reduce(all, {1, 2}) == 1);
    CHECK(reduce(all, {255, 0}) == 0);
  }
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
  // One NaN for all, whatever the processor makes.
  const TestType made = Reduce<TestType>(ReduceOp::kSum, {inf, -inf});
  CHECK(std::memcmp(&made, &nan, sizeof(nan)) == 0);
  CHECK(std::signbit(Reduce<TestType>(ReduceOp::kMin, {TestType{-0.0}, TestType{0}})));
  CHECK_FALSE(std::signbit(Reduce<TestType>(ReduceOp::kMin, {TestType{0}, TestType{-0.0}})));
}

TEST_CASE("16-bit floats are accumulated in float32 and rounded once, to even") {
  const auto half = [](ReduceOp op, std::vector<uint16_t> elements) {
    return Reduce<uint16_t>(op, std::move(elements), DataType::kFloat16);
  };
  // 2048 + 1 + 1: rounded at every step, it would stay 2048.
  CHECK(half(ReduceOp::kSum, {0x6800, 0x3c00, 0x3c00}) == 0x6801);
  CHECK(half(ReduceOp::kSum, {0x6800, 0x3c00}) == 0x6800);  // a tie, to even
  CHECK(half(ReduceOp::kSum, {0x6801, 0x3c00}) == 0x6802);  // a tie, to even
  CHECK(half(ReduceOp::kSum, {0x7bff, 0x4c00}) == 0x7c00);  // 65504 + 16: infinity
  CHECK(half(ReduceOp::kSum, {0x7bff, 0x4b80}) == 0x7bff);  // 65504 + 15: not yet
  CHECK(half(ReduceOp::kSum, {0x0001, 0x0001}) == 0x0002);  // subnormal
  CHECK(half(ReduceOp::kAvg, {0x0001, 0x0000}) == 0x0000);  // half of the least, to even
  CHECK(half(ReduceOp::kAvg, {0x0003, 0x0000}) == 0x0002);  // 1.5 of it
  CHECK(half(ReduceOp::kSum, {0x03ff, 0x0001}) == 0x0400);  // into the normal ones
  CHECK(half(ReduceOp::kProduct, {0x7bff, 0x7bff, 0x0400}) == 0x7c00);
  CHECK(half(ReduceOp::kMin, {0x8000, 0x7c01}) == 0x7e00);  // a signalling NaN
  CHECK(half(ReduceOp::kSum, {0x7c00, 0xfc00}) == 0x7e00);
  const auto brain = [](ReduceOp op, std::vector<uint16_t> elements) {
    return Reduce<uint16_t>(op, std::move(elements), DataType::kBfloat16);
  };
  CHECK(brain(ReduceOp::kSum, {0x4380, 0x3f80, 0x3f80}) == 0x4381);  // 256 + 1 + 1
  CHECK(brain(ReduceOp::kSum, {0x4380, 0x3f80}) == 0x4380);
  CHECK(brain(ReduceOp::kSum, {0x4381, 0x3f80}) == 0x4382);
  CHECK(brain(ReduceOp::kSum, {0x7f7f, 0x7f7f}) == 0x7f80);
  CHECK(brain(ReduceOp::kSum, {0x7f81, 0x3f80}) == 0x7fc0);
  CHECK(brain(ReduceOp::kSum, {0x0001, 0x0001}) == 0x0002);
}

TEST_CASE("Every float16 and bfloat16 survives alone, in every variant") {
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  const auto* const input = reinterpret_cast<const std::byte*>(all.data());
  for (const DataType dtype : {DataType::kFloat16, DataType::kBfloat16}) {
    const int infinity = dtype == DataType::kFloat16 ? 0x7c00 : 0x7f80;
    const int nan = dtype == DataType::kFloat16 ? 0x7e00 : 0x7fc0;
    for (const KernelTable* const table : Variants()) {
      std::vector<uint16_t> got(all.size());
      auto* const output = reinterpret_cast<std::byte*>(got.data());
      Find(*table, dtype, ReduceOp::kSum)({.inputs = &input,
                                           .input_count = 1,
                                           .outputs = &output,
                                           .output_count = 1,
                                           .count = all.size()});
      size_t wrong = 0;
      for (size_t i = 0; i < all.size(); ++i) {
        const bool is_nan = (all[i] & 0x7fff) > infinity;
        if (got[i] != (is_nan ? nan : all[i])) ++wrong;
      }
      CHECK(wrong == 0);
    }
  }
}

// Runs `range` elements at a time over buffers in place, or not, and gives the results one after
// another. The outputs of the latter are aligned, and streamed.
struct Run {
  const KernelTable* table = nullptr;
  size_t range = 0;
  bool in_place = false;
};
std::vector<Bytes> ReduceAll(const Run& run, DataType dtype, ReduceOp op,
                             std::vector<Bytes> inputs) {
  const size_t element_bytes = SizeOf(dtype);
  const size_t count = inputs[0].size() / element_bytes;
  std::vector<Bytes> outputs(inputs.size(), Bytes(inputs[0].size() + kStreamAlignment));
  std::vector<const std::byte*> from;
  std::vector<std::byte*> to;
  for (size_t rank = 0; rank < inputs.size(); ++rank) {
    const size_t past = reinterpret_cast<uintptr_t>(outputs[rank].data()) % kStreamAlignment;
    from.push_back(inputs[rank].data());
    to.push_back(run.in_place ? inputs[rank].data()
                              : outputs[rank].data() + kStreamAlignment - past);
  }
  for (size_t first = 0; first < count; first += run.range) {
    const bool streams = !run.in_place && first * element_bytes % kStreamAlignment == 0;
    Find(*run.table, dtype, op)({.inputs = from.data(),
                                 .input_count = from.size(),
                                 .outputs = to.data(),
                                 .output_count = to.size(),
                                 .streamed = streams ? to.size() / 2 : 0,
                                 .first = first,
                                 .count = std::min(run.range, count - first),
                                 .divisor = static_cast<uint32_t>(from.size())});
  }
  std::vector<Bytes> results;
  for (const std::byte* const result : to) {
    results.emplace_back(result, result + inputs[0].size());
  }
  return results;
}

TEST_CASE("All variants give the same bits, in place or not, wherever a range begins or ends") {
  for (uint8_t number = 1; number < kDataTypes; ++number) {
    const auto dtype = static_cast<DataType>(number);
    for (const ReduceOp op :
         {ReduceOp::kSum, ReduceOp::kProduct, ReduceOp::kMin, ReduceOp::kMax, ReduceOp::kAvg}) {
      if (Find(kSse2Kernels, dtype, op) == nullptr) continue;
      // A few in registers, more in blocks, with a whole and a broken group of four.
      for (const size_t ranks : {1, 2, 8, 9, 16, 33}) {
        const size_t count = 4999;
        std::vector<Bytes> inputs;
        for (size_t rank = 0; rank < ranks; ++rank) {
          inputs.push_back(
              RandomData({.dtype = dtype, .count = count, .seed = rank, .special = true}));
        }
        const Run plain{.table = &kSse2Kernels, .range = count};
        const std::vector<Bytes> want = ReduceAll(plain, dtype, op, inputs);
        std::vector<const Bytes*> of;
        for (const Bytes& input : inputs) of.push_back(&input);
        REQUIRE(CheckReduction({.dtype = dtype, .op = op}, of, want[0].data()) == "");
        for (const KernelTable* const table : Variants()) {
          for (const size_t range : {size_t{61}, size_t{2048}, count}) {
            const bool in_place = range != 2048;
            const Run run{.table = table, .range = range, .in_place = in_place};
            const std::vector<Bytes> got = ReduceAll(run, dtype, op, inputs);
            for (size_t rank = 0; rank < ranks; ++rank) {
              REQUIRE(std::memcmp(got[rank].data(), want[0].data(), want[0].size()) == 0);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("There are kernels for what is supported, and null for the rest") {
  for (const KernelTable* const table : Variants()) {
    CHECK(Find(*table, DataType::kFloat32, ReduceOp::kNone) == nullptr);
    CHECK(Find(*table, DataType::kNone, ReduceOp::kSum) == nullptr);
    CHECK(Find(*table, DataType::kBool, ReduceOp::kAvg) == nullptr);
    CHECK(Find(*table, DataType::kFloat16, ReduceOp::kAvg) != nullptr);
  }
  CHECK(CanRun(Kernels()));
}

TEST_CASE("Copies copy their range and nothing else") {
  const Bytes source = RandomData({.dtype = DataType::kUint8, .count = 50'000});
  const std::byte* const input = source.data();
  for (const KernelTable* const table : Variants()) {
    for (const size_t outputs : {1, 2, 11}) {
      std::vector<Bytes> copies(outputs, Bytes(source.size()));
      std::vector<std::byte*> to;
      for (Bytes& copy : copies) to.push_back(copy.data());
      table->copy({.inputs = &input,
                   .input_count = 1,
                   .outputs = to.data(),
                   .output_count = outputs,
                   .first = 3,
                   .count = 40'000});
      Bytes want(source.size());
      std::copy_n(source.begin() + 3, 40'000, want.begin() + 3);
      for (const Bytes& copy : copies) CHECK(std::memcmp(copy.data(), want.data(), 50'000) == 0);
    }
  }
}

TEST_CASE("Exchanged buffers change places, in place at both, one or no end") {
  const Bytes a = RandomData({.dtype = DataType::kUint8, .count = 5001, .seed = 1});
  const Bytes b = RandomData({.dtype = DataType::kUint8, .count = 5001, .seed = 2});
  for (const KernelTable* const table : Variants()) {
    for (const int in_place : {0, 1, 2, 3}) {
      Bytes a_in = a, b_in = b, a_out = a, b_out = b;
      Bytes& a_to = (in_place & 1) != 0 ? a_in : a_out;
      Bytes& b_to = (in_place & 2) != 0 ? b_in : b_out;
      table->exchange({.a_in = a_in.data(),
                       .b_in = b_in.data(),
                       .a_out = a_to.data(),
                       .b_out = b_to.data(),
                       .first = 7,
                       .count = 4900});
      Bytes a_want = a, b_want = b;
      std::copy_n(b.begin() + 7, 4900, a_want.begin() + 7);
      std::copy_n(a.begin() + 7, 4900, b_want.begin() + 7);
      CHECK(std::memcmp(a_to.data(), a_want.data(), a.size()) == 0);
      CHECK(std::memcmp(b_to.data(), b_want.data(), b.size()) == 0);
    }
  }
}

}  // namespace
}  // namespace tutti
