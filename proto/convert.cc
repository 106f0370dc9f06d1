#include "proto/convert.h"

#include <algorithm>

namespace tutti {
namespace {

// True if the two enumerators have one number.
template <typename Ours, typename Wire>
constexpr bool Same(Ours ours, Wire wire) {
  return static_cast<int>(ours) == static_cast<int>(wire);
}

static_assert(Same(DataType::kNone, v1::DATA_TYPE_UNSPECIFIED));
static_assert(Same(DataType::kBool, v1::DATA_TYPE_BOOL));
static_assert(Same(DataType::kUint8, v1::DATA_TYPE_UINT8));
static_assert(Same(DataType::kInt8, v1::DATA_TYPE_INT8));
static_assert(Same(DataType::kInt32, v1::DATA_TYPE_INT32));
static_assert(Same(DataType::kUint32, v1::DATA_TYPE_UINT32));
static_assert(Same(DataType::kInt64, v1::DATA_TYPE_INT64));
static_assert(Same(DataType::kUint64, v1::DATA_TYPE_UINT64));
static_assert(Same(DataType::kFloat16, v1::DATA_TYPE_FLOAT16));
static_assert(Same(DataType::kBfloat16, v1::DATA_TYPE_BFLOAT16));
static_assert(Same(DataType::kFloat32, v1::DATA_TYPE_FLOAT32));
static_assert(Same(DataType::kFloat64, v1::DATA_TYPE_FLOAT64));
static_assert(Same(DataType::kFloat64, v1::DataType_MAX));

static_assert(Same(ReduceOp::kNone, v1::REDUCE_OP_UNSPECIFIED));
static_assert(Same(ReduceOp::kSum, v1::REDUCE_OP_SUM));
static_assert(Same(ReduceOp::kProduct, v1::REDUCE_OP_PRODUCT));
static_assert(Same(ReduceOp::kMin, v1::REDUCE_OP_MIN));
static_assert(Same(ReduceOp::kMax, v1::REDUCE_OP_MAX));
static_assert(Same(ReduceOp::kAvg, v1::REDUCE_OP_AVG));
static_assert(Same(ReduceOp::kAvg, v1::ReduceOp_MAX));

static_assert(Same(CollectiveKind::kNone, v1::COLLECTIVE_KIND_UNSPECIFIED));
static_assert(Same(CollectiveKind::kAllreduce, v1::COLLECTIVE_KIND_ALLREDUCE));
static_assert(Same(CollectiveKind::kReduce, v1::COLLECTIVE_KIND_REDUCE));
static_assert(Same(CollectiveKind::kBroadcast, v1::COLLECTIVE_KIND_BROADCAST));
static_assert(Same(CollectiveKind::kAllgather, v1::COLLECTIVE_KIND_ALLGATHER));
static_assert(Same(CollectiveKind::kGather, v1::COLLECTIVE_KIND_GATHER));
static_assert(Same(CollectiveKind::kScatter, v1::COLLECTIVE_KIND_SCATTER));
static_assert(Same(CollectiveKind::kReduceScatter, v1::COLLECTIVE_KIND_REDUCE_SCATTER));
static_assert(Same(CollectiveKind::kAllToAll, v1::COLLECTIVE_KIND_ALL_TO_ALL));
static_assert(Same(CollectiveKind::kSend, v1::COLLECTIVE_KIND_SEND));
static_assert(Same(CollectiveKind::kRecv, v1::COLLECTIVE_KIND_RECV));
static_assert(Same(CollectiveKind::kBarrier, v1::COLLECTIVE_KIND_BARRIER));
static_assert(Same(CollectiveKind::kAgree, v1::COLLECTIVE_KIND_AGREE));
static_assert(Same(CollectiveKind::kAgree, v1::CollectiveKind_MAX));

static_assert(Same(Cause::kUnspecified, v1::CAUSE_UNSPECIFIED));
static_assert(Same(Cause::kRankDied, v1::CAUSE_RANK_DIED));
static_assert(Same(Cause::kSessionClosed, v1::CAUSE_SESSION_CLOSED));
static_assert(Same(Cause::kRankLeft, v1::CAUSE_RANK_LEFT));
static_assert(Same(Cause::kMismatch, v1::CAUSE_MISMATCH));
static_assert(Same(Cause::kDeadline, v1::CAUSE_DEADLINE));
static_assert(Same(Cause::kInvalid, v1::CAUSE_INVALID));
static_assert(Same(Cause::kLimit, v1::CAUSE_LIMIT));
static_assert(Same(Cause::kDraining, v1::CAUSE_DRAINING));
static_assert(Same(Cause::kNodeLost, v1::CAUSE_NODE_LOST));
static_assert(Same(Cause::kBackend, v1::CAUSE_BACKEND));
static_assert(Same(Cause::kNotFound, v1::CAUSE_NOT_FOUND));
static_assert(Same(Cause::kSeatTaken, v1::CAUSE_SEAT_TAKEN));
static_assert(Same(Cause::kUnsupported, v1::CAUSE_UNSUPPORTED));
static_assert(Same(Cause::kProtocol, v1::CAUSE_PROTOCOL));
static_assert(Same(Cause::kWithdrawn, v1::CAUSE_WITHDRAWN));
static_assert(Same(Cause::kInternal, v1::CAUSE_INTERNAL));
static_assert(Same(Cause::kInternal, v1::Cause_MAX));

}  // namespace

v1::DataType ToProto(DataType dtype) { return static_cast<v1::DataType>(dtype); }
v1::ReduceOp ToProto(ReduceOp op) { return static_cast<v1::ReduceOp>(op); }
v1::CollectiveKind ToProto(CollectiveKind kind) { return static_cast<v1::CollectiveKind>(kind); }
v1::Cause ToProto(Cause cause) { return static_cast<v1::Cause>(cause); }

v1::Failure ToProto(const Failure& failure) {
  v1::Failure wire;
  wire.set_code(static_cast<int>(failure.code()));
  wire.set_cause(ToProto(failure.cause));
  wire.set_message(failure.message);
  wire.set_group(failure.group);
  wire.set_epoch(failure.epoch);
  wire.mutable_culprits()->Assign(failure.culprits.begin(), failure.culprits.end());
  wire.mutable_missing()->Assign(failure.missing.begin(), failure.missing.end());
  wire.set_sequence(failure.sequence);
  return wire;
}

std::optional<DataType> FromProto(v1::DataType dtype) {
  if (!v1::DataType_IsValid(dtype)) return std::nullopt;
  return static_cast<DataType>(dtype);
}

std::optional<ReduceOp> FromProto(v1::ReduceOp op) {
  if (!v1::ReduceOp_IsValid(op)) return std::nullopt;
  return static_cast<ReduceOp>(op);
}

std::optional<CollectiveKind> FromProto(v1::CollectiveKind kind) {
  if (!v1::CollectiveKind_IsValid(kind)) return std::nullopt;
  return static_cast<CollectiveKind>(kind);
}

std::optional<Cause> FromProto(v1::Cause cause) {
  if (!v1::Cause_IsValid(cause)) return std::nullopt;
  return static_cast<Cause>(cause);
}

Failure FromProto(const v1::Failure& wire) {
  Failure failure;
  failure.cause = FromProto(wire.cause()).value_or(Cause::kUnspecified);
  failure.message = wire.message();
  failure.group = wire.group();
  failure.epoch = wire.epoch();
  failure.culprits.assign(wire.culprits().begin(), wire.culprits().end());
  failure.missing.assign(wire.missing().begin(), wire.missing().end());
  failure.sequence = wire.sequence();
  return failure;
}

uint64_t ToMilliseconds(absl::Duration duration) {
  return static_cast<uint64_t>(std::max<int64_t>(absl::ToInt64Milliseconds(duration), 0));
}

}  // namespace tutti
