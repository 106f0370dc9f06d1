// What executes collectives: the interface between the daemon's core and its backends.
//
// The core has admitted, matched and agreed; a backend only moves and combines bytes. Two small
// interfaces: a Backend makes Communicators, a Communicator runs Collectives. One Run for all
// kinds: a backend is added by writing one class, and a kind by adding a value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/inlined_vector.h"
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

// Most ranks read one buffer and write one.
using Buffers = absl::InlinedVector<Buffer, 1>;

// One rank's part in a collective: what is read and what is written. W is the world size; a list
// has one buffer per rank, in rank order.
//
//   kind            inputs          outputs                 output o may be the very bytes of
//   allreduce       K tensors       K tensors               input o
//   reduce          K tensors       root: K; others: none   input o
//   broadcast       root: K         others: K; root: K or   input o
//                   others: none    none
//   allgather       1 tensor        list                    the input, if o is this rank
//   gather          1 tensor        root: list              the input, if o is the root
//   scatter         root: list      1 tensor                the root's own element of the list
//   reduce_scatter  list            1 tensor                this rank's own element of the list
//   all_to_all      list            list                    input o
//   send            1 tensor        none                    (a transfer: the sender's Participant
//   recv            none            1 tensor                and the receiver's, one collective)
//   barrier         none            none
//
// Otherwise no output overlaps another output or an input, of any rank. Inputs may overlap. All
// buffers of all ranks have `count` elements, with two exceptions: the K tensors of allreduce,
// reduce and broadcast may each have another count (alike at all ranks); in an all_to_all, rank a's
// input b is as long as rank b's output a. Buffers without elements may have no data.
struct Participant {
  Rank rank = 0;
  Buffers inputs;
  Buffers outputs;
};

// How long each buffer of an all_to_all is, in bytes: what rank `from` has for rank `to`, and what
// `to` expects from it.
struct Splits {
  uint32_t world_size = 0;
  std::vector<uint64_t> sent;      // [from * world_size + to]
  std::vector<uint64_t> expected;  // [from * world_size + to]
};

// Nodes have to agree on an operation before any of them writes an output: each says what its ranks
// have submitted, and all decide by the same rule, on the same words. So all decide alike.
//
// Called on the thread of Run.
class Agreement {
 public:
  virtual ~Agreement() = default;

  // What this node says: 1 to kSaidBytesMax bytes. Does not change.
  virtual std::string_view mine() const = 0;

  // `said`: by node. If it returns false, Run writes nothing, on any node, and returns OK.
  virtual bool Decide(const std::vector<std::string_view>& said) = 0;

  // The same once more for an all_to_all, when they have agreed on the rest.
  virtual bool DecideSplits(const Splits& splits) = 0;
};

// Enough for a signature, or for a failure in words.
inline constexpr size_t kSaidBytesMax = 2048;

// One matched operation with the buffers of all its ranks on this node. A value: no behaviour.
struct Collective {
  CollectiveKind kind = CollectiveKind::kNone;
  DataType dtype = DataType::kNone;
  ReduceOp op = ReduceOp::kNone;
  // For rooted kinds: the root. For a transfer, whose kind is kSend: the source.
  Rank root = 0;
  // For a transfer between nodes: who receives it.
  Rank destination = 0;
  // Elements of each buffer; of the K tensors of allreduce, reduce and broadcast together. 0 for an
  // all_to_all, whose buffers differ.
  size_t count = 0;
  uint32_t world_size = 0;
  // Ranks on this node that take part, in increasing order: two of a transfer, else all.
  std::vector<Participant> participants;
  // By the caller's thread alone: it must not wait for another.
  bool alone = false;
  // For groups over several nodes: collectives have one, which outlives Run; transfers have none,
  // as both their nodes know already that they fit. If this node has refused the operation, it has
  // no participants, and its agreement says so: then Decide is false everywhere.
  Agreement* agreement = nullptr;
};

// Sum of the sizes of all buffers: what running it costs in memory traffic, roughly.
size_t BytesTouched(const Participant& participant);
size_t BytesTouched(const Collective& collective);

// Which group a communicator serves, and where its ranks are.
struct GroupSpec {
  uint32_t world_size = 0;
  // In increasing order.
  std::vector<Rank> local_ranks;
  // The ranks of each node in increasing order, nodes in the order of their lowest ranks. Empty if
  // all are on this one.
  std::vector<std::vector<Rank>> nodes;
  size_t node = 0;  // which of them this is
  // For people, and to tell one epoch's traffic from another's.
  std::string epoch_id;
  // This node's address by which the others reach it: IPv4 or IPv6, in numbers.
  std::string host;
  // Tells the other nodes some bytes, and blocks until each has told its own: by node. To be called
  // once. Fails if the group will not form.
  std::function<absl::StatusOr<std::vector<std::string>>(std::string mine)> meet;
};

// One node's part of one group epoch. Thread-safe: collectives of one group that belong to
// different sequences may run at the same time, on different threads.
//
// In a group over several nodes, each node runs the same collectives in the same order, one at a
// time. A transfer between two nodes is run by both, with one participant each; those from one
// node to another one at a time and in the same order on both; and whatever else is running.
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

  // How many nodes its groups may span.
  virtual size_t nodes_max() const { return 1; }
};

}  // namespace tutti
