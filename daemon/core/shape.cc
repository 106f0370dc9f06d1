#include "daemon/core/shape.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/core/limits.h"

namespace tutti {
namespace {

Failure Invalid(std::string message) {
  return {.cause = Cause::kInvalid, .message = std::move(message)};
}

// How many tensors one side has. `any`: one or more, as many as the other side.
struct Side {
  size_t count = 0;
  bool any = false;
};
constexpr Side kNone{0, false};
constexpr Side kOne{1, false};
constexpr Side kAny{1, true};

struct Shape {
  Side inputs;
  Side outputs;
  // The outputs may as well be left out.
  bool outputs_optional = false;
};

Shape ShapeOf(CollectiveKind kind, bool is_root, uint32_t world_size) {
  const Side list{world_size, false};
  switch (kind) {
    case CollectiveKind::kAllreduce:
      return {kAny, kAny};
    case CollectiveKind::kReduce:
      return {kAny, is_root ? kAny : kNone};
    case CollectiveKind::kBroadcast:
      // The root's tensor holds what is sent either way.
      return is_root ? Shape{kAny, kAny, true} : Shape{kNone, kAny};
    case CollectiveKind::kAllgather:
      return {kOne, list};
    case CollectiveKind::kGather:
      return {kOne, is_root ? list : kNone};
    case CollectiveKind::kScatter:
      return {is_root ? list : kNone, kOne};
    case CollectiveKind::kReduceScatter:
      return {list, kOne};
    case CollectiveKind::kAllToAll:
      return {list, list};
    case CollectiveKind::kSend:
      return {kOne, kNone};
    case CollectiveKind::kRecv:
      return {kNone, kOne};
    case CollectiveKind::kAgree:
      return {kOne, kOne};
    case CollectiveKind::kBarrier:
    case CollectiveKind::kNone:
      break;
  }
  return {kNone, kNone};
}

std::string Describe(const Side& side, const char* noun) {
  if (side.any) return absl::StrCat("one or more ", noun, "s");
  return absl::StrCat(side.count, " ", noun, side.count == 1 ? "" : "s");
}

bool Fits(const Side& side, size_t count) {
  return side.any ? count >= side.count : count == side.count;
}

std::optional<Failure> CheckNumbers(const WorkRequest& request, Rank rank, uint32_t world_size) {
  const Shape shape = ShapeOf(request.kind, request.root == rank, world_size);
  const size_t inputs = request.inputs.size();
  const size_t outputs = request.outputs.size();
  const bool left_out = shape.outputs_optional && outputs == 0;
  const bool as_many = !shape.inputs.any || !shape.outputs.any || inputs == outputs;
  if (Fits(shape.inputs, inputs) && (left_out || (Fits(shape.outputs, outputs) && as_many))) {
    return std::nullopt;
  }
  return Invalid(absl::StrCat(NameOf(request.kind), " of rank ", rank, " in a group of ",
                              world_size, " takes ", Describe(shape.inputs, "input"), " and ",
                              shape.inputs.any && shape.outputs.any
                                  ? std::string("as many outputs")
                                  : Describe(shape.outputs, "output"),
                              ", not ", inputs, " and ", outputs));
}

std::optional<Failure> CheckWholeElements(const WorkRequest& request) {
  const size_t element = SizeOf(request.dtype);
  for (const auto* spans : {&request.inputs, &request.outputs}) {
    for (const Span& span : *spans) {
      if (span.offset % element == 0 && span.length % element == 0) continue;
      return Invalid(absl::StrCat("offset ", span.offset, " and length ", span.length,
                                  " must be multiples of ", element, ", the size of ",
                                  NameOf(request.dtype)));
    }
  }
  return std::nullopt;
}

// Kinds that take K tensors at once, each of a length of its own.
bool TakesManyTensors(CollectiveKind kind) {
  return kind == CollectiveKind::kAllreduce || kind == CollectiveKind::kReduce ||
         kind == CollectiveKind::kBroadcast;
}

// Input k and output k are as long.
std::optional<Failure> CheckPairs(const WorkRequest& request) {
  if (request.inputs.empty() || request.outputs.empty()) return std::nullopt;
  for (size_t k = 0; k < request.inputs.size(); ++k) {
    const uint64_t input = request.inputs[k].length;
    const uint64_t output = request.outputs[k].length;
    if (input == output) continue;
    return Invalid(
        absl::StrCat("input ", k, " has ", input, " bytes, and output ", k, " ", output));
  }
  return std::nullopt;
}

std::optional<Failure> CheckAllEqual(const WorkRequest& request) {
  std::optional<uint64_t> length;
  for (const auto* spans : {&request.inputs, &request.outputs}) {
    for (const Span& span : *spans) {
      if (!length.has_value()) length = span.length;
      if (span.length == *length) continue;
      return Invalid(absl::StrCat("the tensors of one ", NameOf(request.kind),
                                  " are of one size; these have ", *length, " and ", span.length,
                                  " bytes"));
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<Failure> CheckShape(const WorkRequest& request, Rank rank, uint32_t world_size) {
  const size_t most = std::max(request.inputs.size(), request.outputs.size());
  if (most > kSpansPerWorkMax) {
    return Failure{.cause = Cause::kLimit,
                   .message = absl::StrCat("one work has at most ", kSpansPerWorkMax,
                                           " tensors on either side, and this one ", most,
                                           ": make several works of it")};
  }
  if (auto failure = CheckNumbers(request, rank, world_size)) return failure;
  if (request.inputs.empty() && request.outputs.empty()) return std::nullopt;
  if (request.kind == CollectiveKind::kAgree &&
      (request.dtype != DataType::kBool || request.inputs.front().length != 1)) {
    return Invalid("agree takes one bool");
  }
  if (auto failure = CheckWholeElements(request)) return failure;
  if (request.kind == CollectiveKind::kAllToAll) return std::nullopt;
  if (TakesManyTensors(request.kind)) return CheckPairs(request);
  return CheckAllEqual(request);
}

bool MayShare(CollectiveKind kind, Rank rank, size_t input, size_t output) {
  switch (kind) {
    case CollectiveKind::kAllgather:
    case CollectiveKind::kGather:
      return output == rank;
    case CollectiveKind::kScatter:
    case CollectiveKind::kReduceScatter:
      return input == rank;
    default:
      return input == output;
  }
}

Signature SignatureOf(const WorkRequest& request) {
  Signature signature;
  signature.kind = request.kind;
  signature.dtype = request.dtype;
  signature.op = request.op;
  signature.root = IsRooted(request.kind) ? request.root : 0;
  const size_t element = SizeOf(request.dtype);
  // The lengths of an all_to_all are compared between pairs of ranks.
  if (element == 0 || request.kind == CollectiveKind::kAllToAll) return signature;
  const std::vector<Span>& alike = AlikeSide(request.kind, request.inputs, request.outputs);
  signature.parts = static_cast<uint32_t>(alike.size());
  const uint64_t bytes =
      std::accumulate(alike.begin(), alike.end(), uint64_t{0},
                      [](uint64_t sum, const Span& span) { return sum + span.length; });
  signature.count = bytes / element;
  return signature;
}

}  // namespace tutti
