#include "client/cpp/group.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "client/cpp/arena_pool.h"
#include "client/cpp/connection.h"
#include "client/cpp/pending_work.h"
#include "client/cpp/seat.h"
#include "proto/convert.h"
#include "tutti/v1/client.pb.h"

namespace tutti {
inline namespace client {
namespace {

// One operation before its buffers are known.
v1::Work NewWork(const Seat& seat, CollectiveKind kind, const CallOptions& options) {
  v1::Work work;
  work.set_membership(seat.membership);
  work.set_kind(ToProto(kind));
  work.set_timeout_ms(ToMilliseconds(options.timeout));
  return work;
}

PendingWork::Options NewPending(const Seat& seat, const CallOptions& options) {
  const absl::Duration timeout =
      options.timeout > absl::ZeroDuration() ? options.timeout : seat.work_timeout;
  return PendingWork::Options{
      .group = seat.group,
      .epoch = seat.epoch,
      .patience = timeout > absl::ZeroDuration() ? timeout + kGrace : kWaitMax};
}

void SetSpan(const Tensor& tensor, v1::Span* span) {
  span->set_arena(tensor.block()->arena());
  span->set_offset(tensor.block()->offset());
  span->set_length(tensor.size_bytes());
}

// A tensor as the input or output of a work. One that the daemon does not know by the numbers of
// this session is left out: the daemon refuses the work then, and tells the other ranks at once,
// which would wait if it were never submitted.
void AddTensor(const Connection& connection, const Tensor& tensor,
               google::protobuf::RepeatedPtrField<v1::Span>* spans, PendingWork::Options* pending) {
  if (connection.Owns(tensor)) {
    SetSpan(tensor, spans->Add());
    pending->tensors.push_back(tensor);
  } else {
    pending->refused = Failure{.cause = Cause::kInvalid,
                               .message = tensor.valid() ? "the tensor belongs to another client"
                                                         : "there is no tensor: it was never made"};
  }
}

Work Submit(const Seat& seat, v1::Work work, PendingWork::Options options) {
  auto pending = std::make_shared<PendingWork>(std::move(options));
  seat.connection->Submit(std::move(work), pending);
  return Work(std::move(pending));
}

// Plain memory to be worked on by way of a tensor.
struct Plain {
  void* data = nullptr;
  DataType dtype = DataType::kNone;
  size_t count = 0;
};

template <typename T>
Plain PlainOf(absl::Span<T> values) {
  return Plain{values.data(), kDataTypeOf<T>, values.size()};
}

// Puts a tensor into the work in place of `plain`. If there is no memory for one, the work goes out
// without, as above.
void Stage(Connection* connection, const Plain& plain, bool is_read, bool is_written,
           v1::Work* work, PendingWork::Options* pending) {
  work->set_dtype(ToProto(plain.dtype));
  Result<Tensor> made = connection->NewTensor(plain.dtype, plain.count);
  if (!made.ok()) {
    pending->refused = made.failure();
    return;
  }
  const Tensor tensor = *std::move(made);
  const size_t bytes = tensor.size_bytes();
  if (is_read && bytes > 0) std::memcpy(tensor.bytes(), plain.data, bytes);
  if (is_read) SetSpan(tensor, work->add_inputs());
  if (is_written) SetSpan(tensor, work->add_outputs());
  pending->tensors.push_back(tensor);
  if (is_written && bytes > 0) {
    pending->copy_back = [tensor, data = plain.data, bytes] {
      std::memcpy(data, tensor.bytes(), bytes);
    };
  }
}

Work AllReducePlain(const Seat& seat, const Plain& plain, ReduceOp op, const CallOptions& options) {
  v1::Work work = NewWork(seat, CollectiveKind::kAllreduce, options);
  work.set_op(ToProto(op));
  PendingWork::Options pending = NewPending(seat, options);
  Stage(seat.connection.get(), plain, /*is_read=*/true, /*is_written=*/true, &work, &pending);
  return Submit(seat, std::move(work), std::move(pending));
}

Work BroadcastPlain(const Seat& seat, const Plain& plain, Rank root, const CallOptions& options) {
  v1::Work work = NewWork(seat, CollectiveKind::kBroadcast, options);
  work.set_root(root);
  PendingWork::Options pending = NewPending(seat, options);
  const bool is_root = seat.rank == root;
  Stage(seat.connection.get(), plain, /*is_read=*/is_root, /*is_written=*/!is_root, &work,
        &pending);
  return Submit(seat, std::move(work), std::move(pending));
}

}  // namespace

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

Work Group::AllReduce(const Tensor& tensor, ReduceOp op, const CallOptions& options) const {
  return AllReduce(tensor, tensor, op, options);
}

Work Group::AllReduce(const Tensor& input, const Tensor& output, ReduceOp op,
                      const CallOptions& options) const {
  v1::Work work = NewWork(*seat_, CollectiveKind::kAllreduce, options);
  work.set_dtype(ToProto(input.dtype()));
  work.set_op(ToProto(op));
  PendingWork::Options pending = NewPending(*seat_, options);
  AddTensor(*seat_->connection, input, work.mutable_inputs(), &pending);
  AddTensor(*seat_->connection, output, work.mutable_outputs(), &pending);
  if (input.dtype() != output.dtype()) {
    work.clear_outputs();
    pending.refused = Failure{.cause = Cause::kInvalid,
                              .message = "input and output have different element types"};
  }
  return Submit(*seat_, std::move(work), std::move(pending));
}

Work Group::Broadcast(const Tensor& tensor, Rank root, const CallOptions& options) const {
  v1::Work work = NewWork(*seat_, CollectiveKind::kBroadcast, options);
  work.set_dtype(ToProto(tensor.dtype()));
  work.set_root(root);
  PendingWork::Options pending = NewPending(*seat_, options);
  AddTensor(*seat_->connection, tensor,
            seat_->rank == root ? work.mutable_inputs() : work.mutable_outputs(), &pending);
  return Submit(*seat_, std::move(work), std::move(pending));
}

Work Group::Barrier(const CallOptions& options) const {
  return Submit(*seat_, NewWork(*seat_, CollectiveKind::kBarrier, options),
                NewPending(*seat_, options));
}

Work Group::AllReduce(absl::Span<float> values, ReduceOp op, const CallOptions& options) const {
  return AllReducePlain(*seat_, PlainOf(values), op, options);
}
Work Group::AllReduce(absl::Span<double> values, ReduceOp op, const CallOptions& options) const {
  return AllReducePlain(*seat_, PlainOf(values), op, options);
}
Work Group::AllReduce(absl::Span<int32_t> values, ReduceOp op, const CallOptions& options) const {
  return AllReducePlain(*seat_, PlainOf(values), op, options);
}
Work Group::AllReduce(absl::Span<int64_t> values, ReduceOp op, const CallOptions& options) const {
  return AllReducePlain(*seat_, PlainOf(values), op, options);
}
Work Group::Broadcast(absl::Span<float> values, Rank root, const CallOptions& options) const {
  return BroadcastPlain(*seat_, PlainOf(values), root, options);
}
Work Group::Broadcast(absl::Span<double> values, Rank root, const CallOptions& options) const {
  return BroadcastPlain(*seat_, PlainOf(values), root, options);
}
Work Group::Broadcast(absl::Span<int32_t> values, Rank root, const CallOptions& options) const {
  return BroadcastPlain(*seat_, PlainOf(values), root, options);
}
Work Group::Broadcast(absl::Span<int64_t> values, Rank root, const CallOptions& options) const {
  return BroadcastPlain(*seat_, PlainOf(values), root, options);
}

std::optional<Failure> Group::Leave() const { return seat_->connection->Leave(seat_->membership); }

}  // namespace client
}  // namespace tutti
