#include "client/cpp/operation.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cpp/arena_pool.h"
#include "client/cpp/connection.h"
#include "client/cpp/pending_work.h"
#include "client/cpp/request.h"

namespace tutti {
inline namespace client {
namespace {

// Between copies of plain memory: a cache line, and what AVX-512 loads at once.
constexpr size_t kAlignmentBytes = 64;

constexpr size_t kNoPlace = std::numeric_limits<size_t>::max();

Failure Invalid(std::string message) {
  return Failure{.cause = Cause::kInvalid, .message = std::move(message)};
}

// Where one operation's copies of plain memory lie, in one block.
struct Staging {
  // By input and output: the offset in the block; kNoPlace for a Tensor.
  std::vector<size_t> inputs;
  std::vector<size_t> outputs;
  size_t bytes = 0;
  // Set if there is anything to be copied.
  Tensor block;
};

// The input that `output` may be the very same memory as. (The contract's rule: the k-th of both
// where both are as many, this rank's own element where one side is a list and the other is not.)
size_t InPlaceInput(const Operation& operation, size_t output, Rank rank) {
  const size_t inputs = operation.inputs.size();
  const size_t outputs = operation.outputs.size();
  if (inputs == outputs) return output;
  if (inputs == 1 && output == rank) return 0;
  if (outputs == 1 && rank < inputs) return rank;
  return kNoPlace;
}

bool IsSamePlain(const TensorRef& a, const TensorRef& b) {
  return a.is_plain() && b.is_plain() && a.plain() == b.plain() && a.count() == b.count();
}

size_t PlaceNext(const TensorRef& ref, Staging* staging) {
  const size_t place = staging->bytes;
  staging->bytes += (ref.size_bytes() + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
  return place;
}

// Finds each copy its place. REQUIRES: Check passed.
Staging PlaceCopies(const Operation& operation, Rank rank) {
  Staging staging;
  for (const TensorRef& input : operation.inputs) {
    staging.inputs.push_back(input.is_plain() ? PlaceNext(input, &staging) : kNoPlace);
  }
  for (size_t i = 0; i < operation.outputs.size(); ++i) {
    const TensorRef& output = operation.outputs[i];
    const size_t input = InPlaceInput(operation, i, rank);
    if (!output.is_plain()) {
      staging.outputs.push_back(kNoPlace);
    } else if (input != kNoPlace && IsSamePlain(operation.inputs[input], output)) {
      staging.outputs.push_back(staging.inputs[input]);
    } else {
      staging.outputs.push_back(PlaceNext(output, &staging));
    }
  }
  return staging;
}

std::optional<Failure> CheckRef(const Connection& connection, const TensorRef& ref) {
  if (!ref.valid()) return Invalid("there is no tensor: it was never made");
  if (!ref.is_plain()) {
    if (connection.Owns(ref.tensor())) return std::nullopt;
    return Invalid("the tensor belongs to another client");
  }
  if (ref.dtype() == DataType::kNone) return Invalid("plain memory without an element type");
  if (ref.count() > kTensorBytesMax / SizeOf(ref.dtype())) {
    return Invalid(absl::StrCat("plain memory of ", ref.count(), " ", NameOf(ref.dtype())));
  }
  if (ref.plain() == nullptr && ref.count() > 0) return Invalid("plain memory at no address");
  return std::nullopt;
}

DataType DtypeOf(const Operation& operation) {
  if (!operation.inputs.empty()) return operation.inputs[0].dtype();
  return operation.outputs.empty() ? DataType::kNone : operation.outputs[0].dtype();
}

// What is wrong and seen at once. (What only the group knows is the daemon's to say.)
std::optional<Failure> Check(const Connection& connection, const Operation& operation) {
  const DataType dtype = DtypeOf(operation);
  if (operation.inputs.empty() && operation.outputs.empty() &&
      operation.kind != CollectiveKind::kBarrier) {
    return Invalid(absl::StrCat(NameOf(operation.kind), " of no tensors"));
  }
  for (const TensorList* const list : {&operation.inputs, &operation.outputs}) {
    for (const TensorRef& ref : *list) {
      if (std::optional<Failure> failure = CheckRef(connection, ref)) return failure;
      if (ref.dtype() != dtype) {
        return Invalid(absl::StrCat("the tensors have different element types: ", NameOf(dtype),
                                    " and ", NameOf(ref.dtype())));
      }
    }
  }
  for (const TensorRef& output : operation.outputs) {
    if (output.is_read_only()) return Invalid("memory that is only to be read would be written");
  }
  return std::nullopt;
}

RingSpan SpanOf(const Tensor& tensor) {
  const Block& block = *tensor.block();
  return {.arena = block.arena(),
          .offset = block.offset() + static_cast<uint64_t>(tensor.bytes() - block.data()),
          .length = tensor.size_bytes()};
}

void AddSpans(const TensorList& refs, const std::vector<size_t>& places, const Tensor& block,
              Spans* spans) {
  spans->reserve(refs.size());
  for (size_t i = 0; i < refs.size(); ++i) {
    const TensorRef& ref = refs[i];
    spans->push_back(
        SpanOf(ref.is_plain() ? block.Slice(places[i], ref.size_bytes()) : ref.tensor()));
  }
}

void CopyIn(const Operation& operation, const Staging& staging) {
  for (size_t i = 0; i < operation.inputs.size(); ++i) {
    const TensorRef& input = operation.inputs[i];
    if (!input.is_plain() || input.count() == 0) continue;
    std::memcpy(staging.block.bytes() + staging.inputs[i], input.plain(), input.size_bytes());
  }
}

// What Work::Wait does after success; null if there is nothing to do.
std::function<void()> CopyBack(const Operation& operation, const Staging& staging) {
  struct Copy {
    void* to = nullptr;
    const std::byte* from = nullptr;
    size_t bytes = 0;
  };
  std::vector<Copy> copies;
  for (size_t i = 0; i < operation.outputs.size(); ++i) {
    const TensorRef& output = operation.outputs[i];
    if (!output.is_plain() || output.count() == 0) continue;
    copies.push_back(
        {output.plain(), staging.block.bytes() + staging.outputs[i], output.size_bytes()});
  }
  if (copies.empty()) return nullptr;
  return [block = staging.block, copies = std::move(copies)] {
    for (const Copy& copy : copies) std::memcpy(copy.to, copy.from, copy.bytes);
  };
}

void KeepTensors(const TensorList& refs, std::vector<Tensor>* tensors) {
  for (const TensorRef& ref : refs) {
    if (!ref.is_plain()) tensors->push_back(ref.tensor());
  }
}

// Names the tensors in `request`, and has `pending` keep what it needs. On failure neither has any.
std::optional<Failure> AddTensors(const Seat& seat, const Operation& operation, Request* request,
                                  PendingWork::Options* pending) {
  Connection* const connection = seat.connection.get();
  if (std::optional<Failure> failure = Check(*connection, operation)) return failure;
  Staging staging = PlaceCopies(operation, seat.rank);
  const auto is_plain = [](const TensorRef& ref) { return ref.is_plain(); };
  if (std::any_of(operation.inputs.begin(), operation.inputs.end(), is_plain) ||
      std::any_of(operation.outputs.begin(), operation.outputs.end(), is_plain)) {
    Result<Tensor> block = connection->NewTensor(DataType::kUint8, staging.bytes);
    if (!block.ok()) return block.failure();
    staging.block = *std::move(block);
    pending->tensors.push_back(staging.block);
    CopyIn(operation, staging);
    pending->copy_back = CopyBack(operation, staging);
  }
  AddSpans(operation.inputs, staging.inputs, staging.block, &request->inputs);
  AddSpans(operation.outputs, staging.outputs, staging.block, &request->outputs);
  KeepTensors(operation.inputs, &pending->tensors);
  KeepTensors(operation.outputs, &pending->tensors);
  return std::nullopt;
}

}  // namespace

Work Submit(const Seat& seat, const Operation& operation) {
  Request request{.membership = seat.membership,
                  .kind = operation.kind,
                  .dtype = DtypeOf(operation),
                  .op = operation.op,
                  .root = operation.root,
                  .timeout_ms = ToMilliseconds(operation.timeout)};

  const absl::Duration timeout =
      operation.timeout > absl::ZeroDuration() ? operation.timeout : seat.work_timeout;
  PendingWork::Options options{
      .group = seat.group,
      .epoch = seat.epoch,
      .patience = timeout > absl::ZeroDuration() ? timeout + kGrace : kWaitMax};
  options.refused = AddTensors(seat, operation, &request, &options);

  auto pending = std::make_shared<PendingWork>(std::move(options));
  seat.connection->Submit(request, pending);
  return Work(std::move(pending));
}

}  // namespace client
}  // namespace tutti
