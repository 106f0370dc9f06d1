// The only translation between our own types and those of tutti.v1.
//
// Thread-safe: free functions without state. The numbers of both sides are the same (checked when
// this compiles), so converting an enum is a range check and a cast.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "base/failure.h"
#include "base/types.h"
#include "tutti/v1/types.pb.h"

namespace tutti {

// Total.
v1::DataType ToProto(DataType dtype);
v1::ReduceOp ToProto(ReduceOp op);
v1::CollectiveKind ToProto(CollectiveKind kind);
v1::Cause ToProto(Cause cause);
v1::Failure ToProto(const Failure& failure);

// Nothing if the number is not one that this build knows: a newer peer, or garbage. The unspecified
// value becomes kNone; whether that is right depends on the operation.
std::optional<DataType> FromProto(v1::DataType dtype);
std::optional<ReduceOp> FromProto(v1::ReduceOp op);
std::optional<CollectiveKind> FromProto(v1::CollectiveKind kind);
std::optional<Cause> FromProto(v1::Cause cause);

// Whole milliseconds that have passed; 0 if it is negative.
uint64_t ToMilliseconds(absl::Duration duration);

// Total: a cause that this build does not know becomes kUnspecified, which is treated as internal.
Failure FromProto(const v1::Failure& failure);

}  // namespace tutti
