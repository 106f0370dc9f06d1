#include "backends/oracle.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "absl/strings/str_cat.h"

namespace tutti::conformance {
namespace {

// splitmix64: fast, and good enough for data.
uint64_t NextRandom(uint64_t* state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

template <typename T>
T RandomElement(uint64_t* state) {
  const uint64_t bits = NextRandom(state);
  if constexpr (std::is_floating_point_v<T>) {
    // 2^-12 to 2^12, either sign: products of eight are neither denormal nor infinite.
    constexpr double kScales[4] = {0x1p-12, 0x1p-6, 1, 0x1p11};
    const double fraction = 1 + static_cast<double>(bits >> 12) * 0x1p-52;
    return static_cast<T>((bits & 4) == 0 ? fraction : -fraction) *
           static_cast<T>(kScales[bits & 3]);
  } else {
    // One in eight is zero: products of the others are rarely that.
    return (bits & 7) == 0 ? T{0} : static_cast<T>(bits >> 3) | T{1};
  }
}

template <typename T>
Bytes Fill(const DataSpec& spec) {
  Bytes data(spec.count * sizeof(T));
  uint64_t state = spec.seed;
  for (size_t i = 0; i < spec.count; ++i) {
    T element = RandomElement<T>(&state);
    if constexpr (std::is_floating_point_v<T>) {
      constexpr T kInf = std::numeric_limits<T>::infinity();
      constexpr T kNan = std::numeric_limits<T>::quiet_NaN();
      constexpr T kSpecial[] = {kNan, kInf, -kInf, T{-0.0}, T{0}};
      // Which rank has what where differs by seed, so NaN comes first, last, and alone.
      if (spec.special && i < 32 && (NextRandom(&state) & 1) != 0) {
        element = kSpecial[NextRandom(&state) % 5];
      }
    }
    std::memcpy(&data[i * sizeof(T)], &element, sizeof(T));
  }
  return data;
}

template <typename T>
T Element(const std::byte* data, size_t i) {
  T element;
  std::memcpy(&element, data + i * sizeof(T), sizeof(T));
  return element;
}

template <typename T>
std::string CheckIntegers(ReduceOp op, const std::vector<Bytes>& inputs, const std::byte* got) {
  for (size_t i = 0; i < inputs[0].size() / sizeof(T); ++i) {
    __extension__ using Wide = __int128;
    const auto wrap = [](Wide value) { return static_cast<T>(static_cast<uint64_t>(value)); };
    Wide want = Element<T>(inputs[0].data(), i);
    for (size_t rank = 1; rank < inputs.size(); ++rank) {
      const Wide next = Element<T>(inputs[rank].data(), i);
      if (op == ReduceOp::kProduct) want = wrap(want * next);
      if (op == ReduceOp::kSum || op == ReduceOp::kAvg) want = wrap(want + next);
      if (op == ReduceOp::kMin && next < want) want = next;
      if (op == ReduceOp::kMax && next > want) want = next;
    }
    if (op == ReduceOp::kAvg) want /= static_cast<Wide>(inputs.size());
    if (const T found = Element<T>(got, i); found != want) {
      return absl::StrCat("element ", i, " is ", found, " and should be ",
                          static_cast<int64_t>(want));
    }
  }
  return "";
}

template <typename T, typename Wide>
struct FloatResult {
  Wide want = 0;
  Wide magnitude = 0;  // what errors are relative to
};

template <typename T, typename Wide>
FloatResult<T, Wide> ReduceFloats(ReduceOp op, const std::vector<Bytes>& inputs, size_t i) {
  FloatResult<T, Wide> result;
  result.want = Element<T>(inputs[0].data(), i);
  result.magnitude = std::abs(result.want);
  for (size_t rank = 1; rank < inputs.size(); ++rank) {
    const Wide next = Element<T>(inputs[rank].data(), i);
    if (op == ReduceOp::kMin || op == ReduceOp::kMax) {
      const bool less = next < result.want;
      if (std::isnan(result.want) || next == result.want) continue;
      if (std::isnan(next) || less == (op == ReduceOp::kMin)) result.want = next;
    } else if (op == ReduceOp::kProduct) {
      result.want *= next;
      result.magnitude = std::abs(result.want);
    } else {
      result.want += next;
      result.magnitude += std::abs(next);
    }
  }
  if (op == ReduceOp::kAvg) {
    result.want /= static_cast<Wide>(inputs.size());
    result.magnitude /= static_cast<Wide>(inputs.size());
  }
  return result;
}

template <typename T, typename Wide>
std::string CheckFloats(ReduceOp op, const std::vector<Bytes>& inputs, const std::byte* got) {
  const bool exact = op == ReduceOp::kMin || op == ReduceOp::kMax;
  // One rounding per operation, each at most half an epsilon of what has come together so far.
  const Wide tolerance = exact ? 0
                               : static_cast<Wide>(std::numeric_limits<T>::epsilon()) *
                                     static_cast<Wide>(inputs.size());
  for (size_t i = 0; i < inputs[0].size() / sizeof(T); ++i) {
    const auto result = ReduceFloats<T, Wide>(op, inputs, i);
    const Wide found = Element<T>(got, i);
    // Also infinities, of which differences are NaN.
    if (found == result.want || (std::isnan(found) && std::isnan(result.want))) continue;
    if (!(std::abs(found - result.want) <= tolerance * result.magnitude)) {
      return absl::StrCat("element ", i, " is ", static_cast<double>(found), " and should be ",
                          static_cast<double>(result.want));
    }
  }
  return "";
}

}  // namespace

Bytes RandomData(const DataSpec& spec) {
  switch (spec.dtype) {
    case DataType::kFloat32:
      return Fill<float>(spec);
    case DataType::kFloat64:
      return Fill<double>(spec);
    case DataType::kInt32:
      return Fill<int32_t>(spec);
    case DataType::kInt64:
      return Fill<int64_t>(spec);
    default:
      return Bytes();
  }
}

std::string CheckReduction(DataType dtype, ReduceOp op, const std::vector<Bytes>& inputs,
                           const std::byte* got) {
  switch (dtype) {
    case DataType::kFloat32:
      return CheckFloats<float, double>(op, inputs, got);
    case DataType::kFloat64:
      return CheckFloats<double, long double>(op, inputs, got);
    case DataType::kInt32:
      return CheckIntegers<int32_t>(op, inputs, got);
    case DataType::kInt64:
      return CheckIntegers<int64_t>(op, inputs, got);
    default:
      return absl::StrCat("the oracle does not know ", NameOf(dtype));
  }
}

}  // namespace tutti::conformance
