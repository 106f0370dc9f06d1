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
#include "absl/types/span.h"
#include "base/failure.h"
#include "base/types.h"
#include "client/cpp/tensor.h"
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

  // All operations return at once, unless a thousand others are in flight; Work::Wait tells how
  // they ended. Failures: kMismatch (the ranks' calls do not fit together), kRankDied,
  // kSessionClosed, kRankLeft (naming the rank), kDeadline (naming the missing ranks), kInvalid,
  // kUnsupported, kNotFound (this seat was given back), kDraining, kNodeLost (the daemon is gone).

  // Every rank gets the reduction of all tensors, in place.
  Work AllReduce(const Tensor& tensor, ReduceOp op = ReduceOp::kSum,
                 const CallOptions& options = {}) const;
  // The same into another tensor of the same type and size, which may be `input` itself.
  Work AllReduce(const Tensor& input, const Tensor& output, ReduceOp op = ReduceOp::kSum,
                 const CallOptions& options = {}) const;

  // Every rank gets the root's tensor.
  Work Broadcast(const Tensor& tensor, Rank root, const CallOptions& options = {}) const;

  // Completes when every rank has called it.
  Work Barrier(const CallOptions& options = {}) const;

  // The same for memory that is no Tensor: copied into the shared memory now, and back by
  // Work::Wait, only if the operation ended well. `values` must live until then.
  Work AllReduce(absl::Span<float> values, ReduceOp op = ReduceOp::kSum,
                 const CallOptions& options = {}) const;
  Work AllReduce(absl::Span<double> values, ReduceOp op = ReduceOp::kSum,
                 const CallOptions& options = {}) const;
  Work AllReduce(absl::Span<int32_t> values, ReduceOp op = ReduceOp::kSum,
                 const CallOptions& options = {}) const;
  Work AllReduce(absl::Span<int64_t> values, ReduceOp op = ReduceOp::kSum,
                 const CallOptions& options = {}) const;
  Work Broadcast(absl::Span<float> values, Rank root, const CallOptions& options = {}) const;
  Work Broadcast(absl::Span<double> values, Rank root, const CallOptions& options = {}) const;
  Work Broadcast(absl::Span<int32_t> values, Rank root, const CallOptions& options = {}) const;
  Work Broadcast(absl::Span<int64_t> values, Rank root, const CallOptions& options = {}) const;

  // Gives the seat back; waits for no other rank. Operations submitted before still complete; later
  // ones of the others fail, naming this rank. Fails only if the daemon can't be reached.
  [[nodiscard]] std::optional<Failure> Leave() const;

 private:
  // Shared by the copies of this handle.
  std::shared_ptr<const Seat> seat_;
};

}  // namespace client
}  // namespace tutti
