#include "daemon/transport/request_convert.h"

#include <algorithm>
#include <vector>

#include "proto/convert.h"

namespace tutti {
namespace {

// Longer than any limit that can be set, and far from overflowing.
constexpr uint64_t kMillisecondsMax = uint64_t{1} << 40;

absl::Duration FromMilliseconds(uint64_t ms) {
  return absl::Milliseconds(static_cast<int64_t>(std::min(ms, kMillisecondsMax)));
}

std::vector<Span> FromProto(const google::protobuf::RepeatedPtrField<v1::Span>& spans) {
  std::vector<Span> result;
  result.reserve(static_cast<size_t>(spans.size()));
  for (const v1::Span& span : spans) {
    result.push_back({.arena = span.arena(), .offset = span.offset(), .length = span.length()});
  }
  return result;
}

}  // namespace

JoinRequest FromProto(const v1::JoinGroupRequest& request) {
  return {.group = request.group(),
          .rank = request.rank(),
          .world_size = request.world_size(),
          .backend = request.backend(),
          .work_timeout = FromMilliseconds(request.work_timeout_ms()),
          .join_timeout = FromMilliseconds(request.join_timeout_ms()),
          .number = request.join_id()};
}

WorkRequest FromProto(const v1::Work& work) {
  return {.number = work.number(),
          .membership = work.membership(),
          .kind = FromProto(work.kind()).value_or(CollectiveKind::kNone),
          .dtype = FromProto(work.dtype()).value_or(DataType::kNone),
          .op = FromProto(work.op()).value_or(ReduceOp::kNone),
          .root = work.root(),
          .inputs = FromProto(work.inputs()),
          .outputs = FromProto(work.outputs()),
          .timeout = FromMilliseconds(work.timeout_ms())};
}

Span FromRing(const RingSpan& span) {
  return {.arena = span.arena, .offset = span.offset, .length = span.length};
}

void FromRing(const SubmissionEntry& entry, WorkRequest* request) {
  request->number = entry.number;
  request->membership = entry.membership;
  request->kind =
      FromProto(static_cast<v1::CollectiveKind>(entry.kind)).value_or(CollectiveKind::kNone);
  request->dtype = FromProto(static_cast<v1::DataType>(entry.dtype)).value_or(DataType::kNone);
  request->op = FromProto(static_cast<v1::ReduceOp>(entry.op)).value_or(ReduceOp::kNone);
  request->root = entry.root;
  request->timeout = FromMilliseconds(entry.timeout_ms);
}

}  // namespace tutti
