#include "backends/oracle.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "backends/small_float.h"

namespace tutti::conformance {
namespace {

// For each element type: how it is stored, in what it is accumulated, and in what it is checked.
template <typename T, typename WideType>
struct NativeFloat {
  using Storage = T;
  using Accumulator = T;
  using Wide = WideType;
  static constexpr Wide kEpsilon = std::numeric_limits<T>::epsilon();
  static constexpr Wide kSmallest = std::numeric_limits<T>::denorm_min();
  static T Decode(T stored) { return stored; }
  static T Encode(T value) { return value; }
};
template <typename Format>
struct HalfFloat {
  using Storage = uint16_t;
  using Accumulator = float;
  using Wide = double;
  static constexpr Wide kEpsilon = 1.0 / Format::kOne;
  static inline const Wide kSmallest = Format::Decode(1);
  static float Decode(uint16_t stored) { return static_cast<float>(Format::Decode(stored)); }
  static uint16_t Encode(float value) { return Format::Encode(value); }
};

template <typename T>
T RandomFloat(uint64_t bits) {
  // 2^-12 to 2^12, either sign: products of eight are neither subnormal nor infinite.
  constexpr double kScales[4] = {0x1p-12, 0x1p-6, 1, 0x1p11};
  const double fraction = 1 + static_cast<double>(bits >> 12) * 0x1p-52;
  return static_cast<T>((bits & 4) == 0 ? fraction : -fraction) * static_cast<T>(kScales[bits & 3]);
}

template <typename Format>
uint16_t RandomHalf(uint64_t bits) {
  // 2^-6 to 2^5: products of eight are, now and then, more or less than a float16 can hold.
  const auto exponent = static_cast<uint16_t>(Format::kBias - 6 + ((bits >> 16) % 12));
  return static_cast<uint16_t>((bits & Format::kSign) | exponent * Format::kOne |
                               ((bits >> 32) & (Format::kOne - 1)));
}

template <typename T>
T RandomInteger(uint64_t bits) {
  // One in eight is zero: products of the others are rarely that.
  return (bits & 7) == 0 ? T{0} : static_cast<T>(bits >> 3) | T{1};
}

std::byte RandomBool(uint64_t bits) {
  constexpr uint8_t kTrues[4] = {1, 1, 0x80, 0xff};
  return std::byte{(bits & 4) == 0 ? uint8_t{0} : kTrues[bits & 3]};
}

// `specials` takes the place of about half of the first elements. Which rank has what where differs
// by seed, so NaN comes first, last, and alone.
template <typename T, typename Random>
Bytes Fill(const DataSpec& spec, Random random, const std::vector<T>& specials = {}) {
  Bytes data(spec.count * sizeof(T));
  uint64_t state = spec.seed;
  for (size_t i = 0; i < spec.count; ++i) {
    T element = random(NextRandom(&state));
    if (spec.special && i < 64 && !specials.empty() && (NextRandom(&state) & 1) != 0) {
      element = specials[NextRandom(&state) % specials.size()];
    }
    std::memcpy(&data[i * sizeof(T)], &element, sizeof(T));
  }
  return data;
}

template <typename T>
Bytes FillFloats(const DataSpec& spec) {
  constexpr T kInf = std::numeric_limits<T>::infinity();
  return Fill<T>(spec, &RandomFloat<T>,
                 {std::numeric_limits<T>::quiet_NaN(), kInf, -kInf, T{-0.0}, T{0},
                  std::numeric_limits<T>::denorm_min(), -std::numeric_limits<T>::min()});
}

template <typename Format>
Bytes FillHalves(const DataSpec& spec) {
  std::vector<uint16_t> specials = {0,
                                    1,
                                    Format::kOne - 1,
                                    Format::kSign,
                                    Format::kInfinity,
                                    Format::kInfinity | Format::kSign,
                                    Format::kInfinity | 1,
                                    static_cast<uint16_t>(0xffff)};
  // Sums of these are infinite when they are rounded, not before, so in any order.
  if (Format::kBias == Float16::kBias) specials.insert(specials.end(), 2, Format::kInfinity - 1);
  return Fill<uint16_t>(spec, &RandomHalf<Format>, specials);
}

template <typename T>
T Element(const std::byte* data, size_t i) {
  T element;
  std::memcpy(&element, data + i * sizeof(T), sizeof(T));
  return element;
}

std::string Wrong(size_t i, const std::string& found, const std::string& wanted) {
  return absl::StrCat("element ", i, " is ", found, " and should be ", wanted);
}

using Inputs = std::vector<const Bytes*>;

template <typename T>
std::string CheckIntegers(ReduceOp op, const Inputs& inputs, const std::byte* got) {
  __extension__ using Wide = __int128;
  const auto wrap = [](Wide value) { return static_cast<T>(static_cast<uint64_t>(value)); };
  for (size_t i = 0; i < inputs[0]->size() / sizeof(T); ++i) {
    Wide want = Element<T>(inputs[0]->data(), i);
    for (size_t rank = 1; rank < inputs.size(); ++rank) {
      const Wide next = Element<T>(inputs[rank]->data(), i);
      if (op == ReduceOp::kProduct) want = wrap(want * next);
      if (op == ReduceOp::kSum || op == ReduceOp::kAvg) want = wrap(want + next);
      if (op == ReduceOp::kMin && next < want) want = next;
      if (op == ReduceOp::kMax && next > want) want = next;
    }
    if (op == ReduceOp::kAvg) want /= static_cast<Wide>(inputs.size());
    if (const T found = Element<T>(got, i); found != want) {
      return Wrong(i, absl::StrCat(+found), absl::StrCat(+static_cast<T>(want)));
    }
  }
  return "";
}

std::string CheckBools(ReduceOp op, const Inputs& inputs, const std::byte* got) {
  const bool any = op == ReduceOp::kSum || op == ReduceOp::kMax;
  for (size_t i = 0; i < inputs[0]->size(); ++i) {
    size_t trues = 0;
    for (const Bytes* const input : inputs) trues += (*input)[i] != std::byte{0} ? 1 : 0;
    const int want = (any ? trues > 0 : trues == inputs.size()) ? 1 : 0;
    if (const int found = std::to_integer<int>(got[i]); found != want) {
      return Wrong(i, absl::StrCat(found), absl::StrCat(want));
    }
  }
  return "";
}

// What is combined, and what an average is divided by.
struct Operation {
  ReduceOp op = ReduceOp::kNone;
  size_t divisor = 1;
};

// Element i of all inputs, combined in type T in the order of ranks. `magnitude`, if any, becomes
// what errors are relative to.
template <typename Format, typename T>
T ReduceAs(const Operation& operation, const Inputs& inputs, size_t i, T* magnitude) {
  const ReduceOp op = operation.op;
  using Storage = typename Format::Storage;
  T result = Format::Decode(Element<Storage>(inputs[0]->data(), i));
  T sum = std::abs(result);
  for (size_t rank = 1; rank < inputs.size(); ++rank) {
    const T next = Format::Decode(Element<Storage>(inputs[rank]->data(), i));
    if (op == ReduceOp::kMin || op == ReduceOp::kMax) {
      if (std::isnan(result) || next == result) continue;
      if (std::isnan(next) || (next < result) == (op == ReduceOp::kMin)) result = next;
    } else {
      result = op == ReduceOp::kProduct ? result * next : result + next;
    }
    sum += std::abs(next);
  }
  if (op == ReduceOp::kProduct) sum = std::abs(result);
  if (op == ReduceOp::kAvg) {
    result /= static_cast<T>(operation.divisor);
    sum /= static_cast<T>(operation.divisor);
  }
  if (magnitude != nullptr) *magnitude = sum;
  return result;
}

template <typename Format>
bool SameFloat(typename Format::Storage found, typename Format::Storage want) {
  if (std::isnan(Format::Decode(found)) && std::isnan(Format::Decode(want))) return true;
  return std::memcmp(&found, &want, sizeof(found)) == 0;
}

// One rounding per operation, each at most half an epsilon of what has come together so far; the
// last one to the type of the result.
template <typename Format>
bool NearFloat(ReduceOp op, const Inputs& inputs, size_t i, typename Format::Storage stored) {
  using Wide = typename Format::Wide;
  using Accumulator = typename Format::Accumulator;
  Wide magnitude = 0;
  const Wide want = ReduceAs<Format, Wide>({op, inputs.size()}, inputs, i, &magnitude);
  const Wide found = Format::Decode(stored);
  if (found == want || (std::isnan(found) && std::isnan(want))) return true;
  if (SameFloat<Format>(stored, Format::Encode(static_cast<Accumulator>(want)))) return true;
  if (op == ReduceOp::kMin || op == ReduceOp::kMax) return false;
  const auto roundings = static_cast<Wide>(inputs.size());
  const Wide tolerance = roundings * std::numeric_limits<Accumulator>::epsilon() * magnitude +
                         Format::kEpsilon * std::abs(want) + roundings * Format::kSmallest;
  return std::abs(found - want) <= tolerance;
}

// What each node contributes.
template <typename Format>
std::vector<Bytes> PartsOf(const ReductionSpec& spec, const Operation& operation,
                           const Inputs& inputs) {
  using Storage = typename Format::Storage;
  std::vector<Bytes> parts;
  for (const std::vector<Rank>& ranks : spec.nodes) {
    Inputs here;
    for (const Rank rank : ranks) here.push_back(inputs[rank]);
    Bytes part(inputs[0]->size());
    for (size_t i = 0; i < part.size() / sizeof(Storage); ++i) {
      using Accumulator = typename Format::Accumulator;
      const Storage element =
          Format::Encode(ReduceAs<Format, Accumulator>(operation, here, i, nullptr));
      std::memcpy(&part[i * sizeof(Storage)], &element, sizeof(Storage));
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

template <typename Format>
std::string CheckFloats(const ReductionSpec& spec, const Inputs& inputs, const std::byte* got) {
  using Storage = typename Format::Storage;
  using Accumulator = typename Format::Accumulator;
  const size_t count = inputs[0]->size() / sizeof(Storage);
  Operation operation{spec.op, inputs.size()};
  Inputs ordered = inputs;
  std::vector<Bytes> parts;
  if (!spec.nodes.empty() && spec.rounding == Rounding::kRankOrder) {
    Operation of_node = operation;
    if (spec.op == ReduceOp::kAvg) {
      (sizeof(Storage) == 2 ? operation : of_node).op = ReduceOp::kSum;
    }
    parts = PartsOf<Format>(spec, of_node, inputs);
    ordered.clear();
    for (const Bytes& part : parts) ordered.push_back(&part);
  }
  for (size_t i = 0; i < count; ++i) {
    const auto found = Element<Storage>(got, i);
    const Accumulator want = ReduceAs<Format, Accumulator>(operation, ordered, i, nullptr);
    const bool right = spec.rounding == Rounding::kRankOrder
                           ? SameFloat<Format>(found, Format::Encode(want))
                           : NearFloat<Format>(spec.op, inputs, i, found);
    if (!right) {
      const auto text = [](double value) { return absl::StrCat(value); };
      return Wrong(i, text(Format::Decode(found)), text(want));
    }
  }
  return "";
}

}  // namespace

Bytes RandomData(const DataSpec& spec) {
  switch (spec.dtype) {
    case DataType::kNone:
      return Bytes();
    case DataType::kBool:
      return Fill<std::byte>(spec, &RandomBool);
    case DataType::kUint8:
    case DataType::kInt8:
      return Fill<uint8_t>(spec, &RandomInteger<uint8_t>);
    case DataType::kInt32:
    case DataType::kUint32:
      return Fill<uint32_t>(spec, &RandomInteger<uint32_t>);
    case DataType::kInt64:
    case DataType::kUint64:
      return Fill<uint64_t>(spec, &RandomInteger<uint64_t>);
    case DataType::kFloat16:
      return FillHalves<Float16>(spec);
    case DataType::kBfloat16:
      return FillHalves<Bfloat16>(spec);
    case DataType::kFloat32:
      return FillFloats<float>(spec);
    case DataType::kFloat64:
      return FillFloats<double>(spec);
  }
  return Bytes();
}

std::string CheckReduction(const ReductionSpec& spec, const Inputs& inputs, const std::byte* got) {
  switch (spec.dtype) {
    case DataType::kNone:
      break;
    case DataType::kBool:
      return CheckBools(spec.op, inputs, got);
    case DataType::kUint8:
      return CheckIntegers<uint8_t>(spec.op, inputs, got);
    case DataType::kInt8:
      return CheckIntegers<int8_t>(spec.op, inputs, got);
    case DataType::kInt32:
      return CheckIntegers<int32_t>(spec.op, inputs, got);
    case DataType::kUint32:
      return CheckIntegers<uint32_t>(spec.op, inputs, got);
    case DataType::kInt64:
      return CheckIntegers<int64_t>(spec.op, inputs, got);
    case DataType::kUint64:
      return CheckIntegers<uint64_t>(spec.op, inputs, got);
    case DataType::kFloat16:
      return CheckFloats<HalfFloat<Float16>>(spec, inputs, got);
    case DataType::kBfloat16:
      return CheckFloats<HalfFloat<Bfloat16>>(spec, inputs, got);
    case DataType::kFloat32:
      return CheckFloats<NativeFloat<float, double>>(spec, inputs, got);
    case DataType::kFloat64:
      return CheckFloats<NativeFloat<double, long double>>(spec, inputs, got);
  }
  return absl::StrCat("the oracle does not know ", NameOf(spec.dtype));
}

}  // namespace tutti::conformance
