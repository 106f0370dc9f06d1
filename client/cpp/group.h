// A seat in a group: what operations are submitted to.
//
// Thread-safe, but the order in which one rank submits is what matches its operations with those of
// the others: two threads that submit to one group need an order of their own.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "base/failure.h"
#include "base/result.h"
#include "base/types.h"
#include "client/cpp/tensor_ref.h"
#include "client/cpp/work.h"

namespace tutti {
inline namespace client {

struct Seat;

// How to join. All ranks must agree on everything but the rank and the join timeout.
struct JoinOptions {
  // Any UTF-8 of 1 to 256 bytes.
  std::string group = "default";
  Rank rank = 0;
  uint32_t world_size = 1;
  // "auto", or the name of a backend.
  std::string backend = "auto";
  // Deadline of operations that set none. Zero: the daemon's default.
  absl::Duration work_timeout = absl::ZeroDuration();
  // How long to wait for the other ranks. Zero: the daemon's default.
  absl::Duration join_timeout = absl::ZeroDuration();
};

// What every operation takes.
struct CallOptions {
  // Deadline from the submission. Zero: the group's default.
  absl::Duration timeout = absl::ZeroDuration();
};

class Group {
 public:
  // Clients make groups (Client::Join).
  explicit Group(std::shared_ptr<const Seat> seat) : seat_(std::move(seat)) {}

  const std::string& name() const;
  Rank rank() const;
  uint32_t world_size() const;
  // Counts the formations under this name.
  uint64_t epoch() const;

  // Operations. Tensors and lists of them are written as tensor_ref.h shows. All tensors of one
  // operation have one element type, the same at all ranks. A list has one tensor per rank, in rank
  // order; tensors without elements are whole members of it. W is the world size.
  //
  // In place: an output may be the very tensor of an input where a comment says so. Otherwise
  // outputs overlap neither inputs nor each other. Operations of one group run in the order of
  // their submission, except those between pairs (Send, Recv), which have an order per sender and
  // receiver; a tensor that one of them writes is not to be used by another in flight that is in
  // another order: kInvalid.
  //
  // All but Agree return at once, unless a thousand others are in flight; Work::Wait tells how they
  // ended. Failures: kMismatch (the ranks' calls do not fit together), kRankDied, kSessionClosed,
  // kRankLeft (naming the rank), kDeadline (naming the missing ranks), kInvalid, kUnsupported,
  // kLimit, kNotFound (this seat was given back), kDraining, kNodeLost (the daemon is gone). After
  // kMismatch and kInvalid no tensor has been written, and the group goes on.

  // Every rank gets the reduction of all tensors, which have equal counts.
  Work AllReduce(const TensorRef& tensor, ReduceOp op = ReduceOp::kSum,
                 const CallOptions& options = {}) const;
  // The same into another tensor of the same count, or into `input` itself.
  Work AllReduce(const TensorRef& input, const TensorRef& output, ReduceOp op = ReduceOp::kSum,
                 const CallOptions& options = {}) const;

  // The same for many tensors at once, in one operation with one verdict. Their counts may differ,
  // but not between ranks. Up to 1024.
  Work AllReduceCoalesced(const TensorList& tensors, ReduceOp op = ReduceOp::kSum,
                          const CallOptions& options = {}) const;
  // From input k into output k, which may be input k itself.
  Work AllReduceCoalesced(const TensorList& inputs, const TensorList& outputs,
                          ReduceOp op = ReduceOp::kSum, const CallOptions& options = {}) const;

  // The root gets the reduction in place of its tensor; the others' are only read.
  Work Reduce(const TensorRef& tensor, Rank root, ReduceOp op = ReduceOp::kSum,
              const CallOptions& options = {}) const;
  // The same into another tensor, or into `input` itself. `output`: {} where not the root.
  Work Reduce(const TensorRef& input, const TensorRef& output, Rank root,
              ReduceOp op = ReduceOp::kSum, const CallOptions& options = {}) const;

  // Every rank gets the root's tensor.
  Work Broadcast(const TensorRef& tensor, Rank root, const CallOptions& options = {}) const;

  // Every rank gets all inputs, which have equal counts: rank r's in outputs[r]. This rank's own
  // output may be `input` itself.
  Work AllGather(const TensorRef& input, const TensorList& outputs,
                 const CallOptions& options = {}) const;
  // The root gets them. `outputs`: {} where not the root. The root's own may be `input` itself.
  Work Gather(const TensorRef& input, const TensorList& outputs, Rank root,
              const CallOptions& options = {}) const;

  // Rank r gets the root's inputs[r]; all have equal counts. `inputs`: {} where not the root.
  // The root's `output` may be its own input itself.
  Work Scatter(const TensorList& inputs, const TensorRef& output, Rank root,
               const CallOptions& options = {}) const;

  // Rank r gets the reduction of all ranks' inputs[r]; all have equal counts. `output` may be this
  // rank's own input itself.
  Work ReduceScatter(const TensorList& inputs, const TensorRef& output,
                     ReduceOp op = ReduceOp::kSum, const CallOptions& options = {}) const;

  // Rank a's inputs[b] becomes rank b's outputs[a]. Those two have equal counts, which may be any.
  // outputs[r] may be inputs[r] itself.
  Work AllToAll(const TensorList& inputs, const TensorList& outputs,
                const CallOptions& options = {}) const;

  // To rank `to`, whose Recv of the same count and type it meets: the k-th Send of a pair of ranks
  // meets the k-th Recv. At most 64 KiB end once copied, before anyone has received them; more, and
  // any if too much waits to be received, when received.
  Work Send(const TensorRef& tensor, Rank to, const CallOptions& options = {}) const;
  // From rank `from`. If nothing comes before the deadline, it is only withdrawn: the group goes
  // on, and what comes later meets the next Recv.
  Work Recv(const TensorRef& tensor, Rank from, const CallOptions& options = {}) const;

  // Completes when every rank has called it.
  Work Barrier(const CallOptions& options = {}) const;

  // Waits until every rank has called it; true for all if all gave true, else false for all.
  Result<bool> Agree(bool flag, const CallOptions& options = {}) const;

  // Gives the seat back; waits for no other rank. Operations submitted before still complete; later
  // ones of the others fail, naming this rank. Fails only if the daemon can't be reached.
  [[nodiscard]] std::optional<Failure> Leave() const;

 private:
  // Shared by the copies of this handle.
  std::shared_ptr<const Seat> seat_;
};

}  // namespace client
}  // namespace tutti
