// One rank's part of one operation, as lanes take it: the fields of v1::Work, but its number.
//
// A value.
#pragma once

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "base/types.h"
#include "shm/ring_layout.h"

namespace tutti {
inline namespace client {

// Most works read one tensor and write one.
using Spans = absl::InlinedVector<RingSpan, 1>;

struct Request {
  uint64_t membership = 0;
  CollectiveKind kind = CollectiveKind::kNone;
  DataType dtype = DataType::kNone;
  ReduceOp op = ReduceOp::kNone;
  Rank root = 0;
  uint64_t timeout_ms = 0;  // zero: the group's default
  Spans inputs;
  Spans outputs;
};

}  // namespace client
}  // namespace tutti
