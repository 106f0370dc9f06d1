// One rank's part of an operation, and the operation that ranks make together.
//
// Plain data that lives on the control loop; while an operation runs, a worker reads it and the
// loop leaves it alone.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "backends/backend.h"
#include "base/clock.h"
#include "base/deadline_queue.h"
#include "base/failure.h"
#include "daemon/core/footprint.h"
#include "daemon/core/ids.h"
#include "daemon/core/send_buffer.h"
#include "daemon/core/snapshot.h"
#include "shm/mapping.h"

namespace tutti {

// What all ranks of an operation must agree on. Compared as bytes, hence no padding: 24 of them, so
// that 64 ranks are compared in well under a microsecond and the check can always be on.
struct Signature {
  uint64_t count = 0;  // elements
  Rank root = 0;
  uint32_t parts = 0;  // tensors on the side that all ranks have alike (AlikeSide in shape.h)
  CollectiveKind kind = CollectiveKind::kNone;
  DataType dtype = DataType::kNone;
  ReduceOp op = ReduceOp::kNone;
  std::array<uint8_t, 5> reserved{};

  friend bool operator==(const Signature& a, const Signature& b);
};
static_assert(sizeof(Signature) == 24 && std::has_unique_object_representations_v<Signature>);

// "allreduce sum of 1024 float32": how people are told.
std::string Describe(const Signature& signature);

// One rank's part.
struct Work {
  SessionId session = 0;
  WorkNumber number = 0;
  MembershipId membership = 0;
  Rank rank = 0;
  Signature signature;
  Participant buffers;
  Footprint footprint;
  // What the buffers point into: stays mapped at least as long as this work exists.
  absl::InlinedVector<std::shared_ptr<const Mapping>, 1> mappings;
  // A small send that completed before it was received: what its input has become.
  std::unique_ptr<SendBuffer> sent;
  // Of a rank on another node: nobody here is to be told of it. Its buffers are there, but for the
  // bytes of a small send, which have come along.
  bool remote = false;
  std::string received;
  MonotonicTime submitted;
  MonotonicTime deadline;
  // Its rank has been told how it ended.
  bool told = false;
  // Admission refused it. It still takes its place in the sequence, so that the operation fails at
  // all ranks instead of leaving them to wait for a part that will not come.
  std::optional<Failure> refused;
};

// A collective, or a transfer of a pair: the works that ranks submitted at one place of a sequence.
struct Operation {
  uint64_t sequence = 0;  // its place: 1, 2, 3...
  WorkState state = WorkState::kSubmitted;
  // By slot (OpSequence): null until that rank has submitted.
  std::vector<std::unique_ptr<Work>> works;
  size_t arrived = 0;
  MonotonicTime first_submitted;
  MonotonicTime last_submitted;
  // Decided before it ran: it will not run. Ranks that come later are told the same.
  std::optional<Failure> verdict;
  // Some ranks will never come: it ends without them.
  bool abandoned = false;
  // Over several nodes: its communicator has failed, and why is for the epoch's coordinator to say.
  bool broken = false;
  // Armed while ranks are missing, for the earliest of the deadlines of those who wait.
  std::optional<DeadlineQueue::Handle> deadline;
  MonotonicTime deadline_at;
  // When to tell the log that it is stalled; doubles each time.
  absl::Duration next_stall_report;

  bool complete() const { return arrived == works.size(); }
  // Does somebody still wait for its end? Nobody does for a send that has completed already.
  bool awaited() const;
  // The first work that has arrived. REQUIRES: arrived > 0
  const Work& any() const;
};

// "allreduce #12".
std::string Describe(const Operation& operation);

}  // namespace tutti
