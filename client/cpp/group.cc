#include "client/cpp/group.h"

#include <algorithm>
#include <array>

#include "client/cpp/connection.h"
#include "client/cpp/operation.h"
#include "client/cpp/seat.h"

namespace tutti {
inline namespace client {

uint64_t ToMilliseconds(absl::Duration duration) {
  if (duration <= absl::ZeroDuration()) return 0;
  const absl::Duration bounded = std::min(duration, absl::Hours(24 * 365));
  return static_cast<uint64_t>(
      absl::ToInt64Milliseconds(absl::Ceil(bounded, absl::Milliseconds(1))));
}

const std::string& Group::name() const { return seat_->group; }
Rank Group::rank() const { return seat_->rank; }
uint32_t Group::world_size() const { return seat_->world_size; }
uint64_t Group::epoch() const { return seat_->epoch; }

Work Group::AllReduce(const TensorRef& tensor, ReduceOp op, const CallOptions& options) const {
  return AllReduce(tensor, tensor, op, options);
}

Work Group::AllReduce(const TensorRef& input, const TensorRef& output, ReduceOp op,
                      const CallOptions& options) const {
  return AllReduceCoalesced({input}, {output}, op, options);
}

Work Group::AllReduceCoalesced(const TensorList& tensors, ReduceOp op,
                               const CallOptions& options) const {
  return AllReduceCoalesced(tensors, tensors, op, options);
}

Work Group::AllReduceCoalesced(const TensorList& inputs, const TensorList& outputs, ReduceOp op,
                               const CallOptions& options) const {
  return Submit(*seat_, {.kind = CollectiveKind::kAllreduce,
                         .op = op,
                         .inputs = inputs,
                         .outputs = outputs,
                         .timeout = options.timeout});
}

Work Group::Reduce(const TensorRef& tensor, Rank root, ReduceOp op,
                   const CallOptions& options) const {
  return Reduce(tensor, seat_->rank == root ? tensor : TensorRef(), root, op, options);
}

Work Group::Reduce(const TensorRef& input, const TensorRef& output, Rank root, ReduceOp op,
                   const CallOptions& options) const {
  // The root's own lack of an output is refused like any other lack.
  const bool has_output = output.valid() || seat_->rank == root;
  return Submit(*seat_, {.kind = CollectiveKind::kReduce,
                         .op = op,
                         .root = root,
                         .inputs = {input},
                         .outputs = has_output ? TensorList{output} : TensorList(),
                         .timeout = options.timeout});
}

Work Group::Broadcast(const TensorRef& tensor, Rank root, const CallOptions& options) const {
  const bool is_root = seat_->rank == root;
  return Submit(*seat_, {.kind = CollectiveKind::kBroadcast,
                         .root = root,
                         .inputs = is_root ? TensorList{tensor} : TensorList(),
                         .outputs = is_root ? TensorList() : TensorList{tensor},
                         .timeout = options.timeout});
}

Work Group::AllGather(const TensorRef& input, const TensorList& outputs,
                      const CallOptions& options) const {
  return Submit(*seat_, {.kind = CollectiveKind::kAllgather,
                         .inputs = {input},
                         .outputs = outputs,
                         .timeout = options.timeout});
}

Work Group::Gather(const TensorRef& input, const TensorList& outputs, Rank root,
                   const CallOptions& options) const {
  return Submit(*seat_, {.kind = CollectiveKind::kGather,
                         .root = root,
                         .inputs = {input},
                         .outputs = outputs,
                         .timeout = options.timeout});
}

Work Group::Scatter(const TensorList& inputs, const TensorRef& output, Rank root,
                    const CallOptions& options) const {
  return Submit(*seat_, {.kind = CollectiveKind::kScatter,
                         .root = root,
                         .inputs = inputs,
                         .outputs = {output},
                         .timeout = options.timeout});
}

Work Group::ReduceScatter(const TensorList& inputs, const TensorRef& output, ReduceOp op,
                          const CallOptions& options) const {
  return Submit(*seat_, {.kind = CollectiveKind::kReduceScatter,
                         .op = op,
                         .inputs = inputs,
                         .outputs = {output},
                         .timeout = options.timeout});
}

Work Group::AllToAll(const TensorList& inputs, const TensorList& outputs,
                     const CallOptions& options) const {
  return Submit(*seat_, {.kind = CollectiveKind::kAllToAll,
                         .inputs = inputs,
                         .outputs = outputs,
                         .timeout = options.timeout});
}

Work Group::Send(const TensorRef& tensor, Rank to, const CallOptions& options) const {
  return Submit(
      *seat_,
      {.kind = CollectiveKind::kSend, .root = to, .inputs = {tensor}, .timeout = options.timeout});
}

Work Group::Recv(const TensorRef& tensor, Rank from, const CallOptions& options) const {
  return Submit(*seat_, {.kind = CollectiveKind::kRecv,
                         .root = from,
                         .outputs = {tensor},
                         .timeout = options.timeout});
}

Work Group::Barrier(const CallOptions& options) const {
  return Submit(*seat_, {.kind = CollectiveKind::kBarrier, .timeout = options.timeout});
}

Result<bool> Group::Agree(bool flag, const CallOptions& options) const {
  std::array<bool, 1> value = {flag};
  const Work work = Submit(*seat_, {.kind = CollectiveKind::kAgree,
                                    .inputs = {value},
                                    .outputs = {value},
                                    .timeout = options.timeout});
  if (std::optional<Failure> failure = work.Wait()) return *std::move(failure);
  return value[0];
}

std::optional<Failure> Group::Leave() const { return seat_->connection->Leave(seat_->membership); }

}  // namespace client
}  // namespace tutti
