// One operation on its way out: its tensors are named in the message to the daemon, plain memory is
// copied into the shared memory, and what must live until it ends is kept.
//
// Thread-safe: a value and a function.
#pragma once

#include "absl/time/time.h"
#include "base/types.h"
#include "client/cpp/seat.h"
#include "client/cpp/tensor_ref.h"
#include "client/cpp/work.h"

namespace tutti {
inline namespace client {

// What the caller wants, by the table of v1::Work.
struct Operation {
  CollectiveKind kind = CollectiveKind::kNone;
  ReduceOp op = ReduceOp::kNone;
  // The root, or the other rank of a send or recv.
  Rank root = 0;
  TensorList inputs;
  TensorList outputs;
  // Zero: the group's default.
  absl::Duration timeout;
};

// Submits it. What can be seen to be wrong here (no tensor, one of another client, different
// element types, no memory for copies) fails with that, but is submitted all the same, without
// tensors: the daemon refuses that, and tells the other ranks at once, which would wait if it were
// never submitted.
Work Submit(const Seat& seat, const Operation& operation);

}  // namespace client
}  // namespace tutti
