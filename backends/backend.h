// What executes collectives: the interface between the daemon's core and its backends.
//
// The core has admitted, matched and agreed; a backend only moves and combines bytes. Two small
// interfaces: a Backend makes Communicators, a Communicator runs Collectives. One Run for all
// kinds: a backend is added by writing one class, and a kind by adding a value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/types.h"

namespace tutti {

// Bytes in memory that the daemon has mapped. Whoever makes a Collective keeps the mapping alive
// until Run has returned. Clients may change the bytes at any time: results may then be garbage,
// but nothing that a backend decides may depend on them.
struct Buffer {
  std::byte* data = nullptr;
  size_t size_bytes = 0;
};

// One rank's part in a collective.
struct Participant {
  Rank rank = 0;
  // What is read and what is written. How many there are depends on the kind:
  //   allreduce, reduce, reduce_scatter, broadcast...   one each, or `world_size` where the
  //   operation takes a list (allgather's outputs, scatter's inputs at the root, all_to_all's both)
  // An output may be the very same bytes as an input (in place); otherwise no output overlaps
  // another output or an input, of any rank.
  std::vector<Buffer> inputs;
  std::vector<Buffer> outputs;
};

// One matched operation with the buffers of all its ranks on this node. A value: no behaviour.
struct Collective {
  CollectiveKind kind = CollectiveKind::kNone;
  DataType dtype = DataType::kNone;
  ReduceOp op = ReduceOp::kNone;
  // For rooted kinds: the root. For a transfer: the source.
  Rank root = 0;
  // Elements per rank, for kinds where all ranks have the same number.
  size_t count = 0;
  uint32_t world_size = 0;
  // Ranks on this node, in increasing order.
  std::vector<Participant> participants;
};

// Sum of the sizes of all buffers: what running it costs in memory traffic, roughly.
size_t BytesTouched(const Collective& collective);

// Which group a communicator serves.
struct GroupSpec {
  uint32_t world_size = 0;
  // In increasing order.
  std::vector<Rank> local_ranks;
};

// One node's part of one group epoch. Thread-safe: collectives of one group that belong to
// different sequences may run at the same time, on different threads.
class Communicator {
 public:
  virtual ~Communicator() = default;

  // Executes `collective` and returns when all outputs on this node are written. Blocks. After an
  // error, outputs are undefined, and every later Run fails as well (the epoch is over).
  virtual absl::Status Run(const Collective& collective) = 0;

  // Makes every Run in progress return soon, with kAborted unless it is about to succeed, and every
  // later Run at once. From any thread, idempotent.
  virtual void Abort() = 0;
};

// Makes communicators. Thread-safe; outlives them.
class Backend {
 public:
  virtual ~Backend() = default;

  // "local", "gloo", "nccl".
  virtual std::string_view name() const = 0;

  // OK if Run would execute that; kUnimplemented, naming what it can't, otherwise.
  virtual absl::Status Supports(CollectiveKind kind, DataType dtype, ReduceOp op) const = 0;

  // Connects this node's part of a group. Blocks if other nodes take part.
  virtual absl::StatusOr<std::unique_ptr<Communicator>> Connect(const GroupSpec& spec) = 0;
};

}  // namespace tutti
