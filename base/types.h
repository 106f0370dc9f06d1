// The vocabulary of Tutti: ranks, element types, reduce operations, kinds of collectives.
//
// Plain values; thread-safe by being immutable. The numbers are those of tutti/v1/types.proto
// (proto/convert.h checks that), so that converting is a range check and a cast.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tutti {

// A seat in a group: 0 to world_size - 1.
using Rank = uint32_t;

enum class DataType : uint8_t {
  kNone = 0,  // a barrier has no elements
  kBool = 1,
  kUint8 = 2,
  kInt8 = 3,
  kInt32 = 4,
  kUint32 = 5,
  kInt64 = 6,
  kUint64 = 7,
  kFloat16 = 8,
  kBfloat16 = 9,
  kFloat32 = 10,
  kFloat64 = 11,
};

enum class ReduceOp : uint8_t {
  kNone = 0,  // right for operations that do not reduce
  kSum = 1,
  kProduct = 2,
  kMin = 3,
  kMax = 4,
  kAvg = 5,
};

enum class CollectiveKind : uint8_t {
  kNone = 0,
  kAllreduce = 1,
  kReduce = 2,
  kBroadcast = 3,
  kAllgather = 4,
  kGather = 5,
  kScatter = 6,
  kReduceScatter = 7,
  kAllToAll = 8,
  kSend = 9,
  kRecv = 10,
  kBarrier = 11,
  // Backends never see it: the core makes it an allreduce (min) of one bool.
  kAgree = 12,
};

// Bytes of one element; 0 for kNone.
size_t SizeOf(DataType dtype);

// The field's own names: "float32", "sum", "allreduce". (C strings: Debian's Abseil does not take
// std::string_view.)
const char* NameOf(DataType dtype);
const char* NameOf(ReduceOp op);
const char* NameOf(CollectiveKind kind);

// True for operations that combine elements and hence need a ReduceOp.
bool Reduces(CollectiveKind kind);

// True for operations in which one rank, the root, plays another part than the others.
bool IsRooted(CollectiveKind kind);

// True for send and recv, which concern an ordered pair of ranks and not the whole group.
bool IsPairwise(CollectiveKind kind);

}  // namespace tutti
