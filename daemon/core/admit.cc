#include "daemon/core/admit.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/failpoint.h"

namespace tutti {
namespace {

Failure Invalid(std::string message) {
  return {.cause = Cause::kInvalid, .message = std::move(message)};
}

std::optional<Failure> CheckOperation(const WorkRequest& request, const AdmitContext& context) {
  if (request.kind == CollectiveKind::kNone) return Invalid("unknown kind of operation");
  if (request.kind == CollectiveKind::kBarrier) {
    if (request.dtype != DataType::kNone) return Invalid("a barrier has no dtype");
  } else if (request.dtype == DataType::kNone) {
    return Invalid("unknown dtype");
  }
  if (Reduces(request.kind) != (request.op != ReduceOp::kNone)) {
    return Invalid(absl::StrCat(
        NameOf(request.kind), Reduces(request.kind) ? " needs a reduce op" : " has no reduce op"));
  }
  const absl::Status supported = context.backend.Supports(request.kind, request.dtype, request.op);
  if (!supported.ok()) {
    return Failure{.cause = Cause::kUnsupported, .message = std::string(supported.message())};
  }
  return std::nullopt;
}

std::optional<Failure> CheckRoot(const WorkRequest& request, const AdmitContext& context) {
  if (!IsRooted(request.kind) && !IsPairwise(request.kind)) {
    if (request.root != 0) return Invalid("only rooted operations have a root");
    return std::nullopt;
  }
  if (request.root >= context.world_size) {
    return Invalid(absl::StrCat(IsPairwise(request.kind) ? "peer " : "root ", request.root,
                                " is not a rank of a group of ", context.world_size));
  }
  if (IsPairwise(request.kind) && request.root == context.rank) {
    return Invalid("a rank can't send to or receive from itself");
  }
  return std::nullopt;
}

std::optional<Failure> CheckTimeout(const WorkRequest& request, const AdmitContext& context) {
  if (request.timeout > context.limits.timeout_max) {
    return Failure{.cause = Cause::kLimit,
                   .message = absl::StrCat("a timeout of ", absl::FormatDuration(request.timeout),
                                           " exceeds the limit of ",
                                           absl::FormatDuration(context.limits.timeout_max),
                                           " (timeout_max_ms)")};
  }
  return std::nullopt;
}

// How many tensors a rank gives and gets.
struct Shape {
  size_t inputs = 0;
  size_t outputs_min = 0;
  size_t outputs_max = 0;
};

Shape ShapeOf(CollectiveKind kind, bool is_root) {
  switch (kind) {
    case CollectiveKind::kBarrier:
      return {0, 0, 0};
    case CollectiveKind::kBroadcast:
      // The root's own output may be named or not: it holds what is sent either way.
      return is_root ? Shape{1, 0, 1} : Shape{0, 1, 1};
    case CollectiveKind::kSend:
      return {1, 0, 0};
    case CollectiveKind::kRecv:
      return {0, 1, 1};
    default:
      return {1, 1, 1};
  }
}

std::optional<Failure> CheckSpans(const WorkRequest& request, const AdmitContext& context) {
  const Shape shape = ShapeOf(request.kind, request.root == context.rank);
  if (request.inputs.size() != shape.inputs || request.outputs.size() < shape.outputs_min ||
      request.outputs.size() > shape.outputs_max) {
    return Invalid(absl::StrCat(NameOf(request.kind), " of rank ", context.rank, " takes ",
                                shape.inputs, " inputs and ", shape.outputs_max, " outputs, not ",
                                request.inputs.size(), " and ", request.outputs.size()));
  }
  const size_t element = SizeOf(request.dtype);
  uint64_t length = 0;
  bool first = true;
  for (const auto* spans : {&request.inputs, &request.outputs}) {
    for (const Span& span : *spans) {
      if (span.offset % element != 0 || span.length % element != 0) {
        return Invalid(absl::StrCat("offset ", span.offset, " and length ", span.length,
                                    " must be multiples of ", element, ", the size of ",
                                    NameOf(request.dtype)));
      }
      if (!first && span.length != length) {
        return Invalid(absl::StrCat("the input has ", length, " bytes, the output ", span.length));
      }
      length = span.length;
      first = false;
    }
  }
  return std::nullopt;
}

bool Overlap(const Buffer& a, const Buffer& b) {
  return a.size_bytes > 0 && b.size_bytes > 0 && a.data < b.data + b.size_bytes &&
         b.data < a.data + a.size_bytes;
}

bool AnyOverlap(const std::vector<Buffer>& some, const std::vector<Buffer>& others) {
  return std::any_of(some.begin(), some.end(), [&](const Buffer& a) {
    return std::any_of(others.begin(), others.end(),
                       [&](const Buffer& b) { return Overlap(a, b); });
  });
}

// A buffer that one work writes may not be named by another in flight, unless both are this rank's
// and of one sequence, whose works run in order.
std::optional<Failure> CheckOverlap(const Work& work, const AdmitContext& context) {
  for (const Buffer& input : work.buffers.inputs) {
    for (const Buffer& output : work.buffers.outputs) {
      if (Overlap(input, output) && input.data != output.data) {
        return Invalid("input and output overlap; they must be the same tensor, or apart");
      }
    }
  }
  for (const auto& [number, other] : context.session.in_flight()) {
    if (other.sequence == context.sequence && other.work->rank == work.rank) continue;
    const Participant& theirs = other.work->buffers;
    if (AnyOverlap(work.buffers.outputs, theirs.outputs) ||
        AnyOverlap(work.buffers.outputs, theirs.inputs) ||
        AnyOverlap(work.buffers.inputs, theirs.outputs)) {
      return Invalid(absl::StrCat("the tensor is in use by ", other.description,
                                  ", which is still in flight"));
    }
  }
  return std::nullopt;
}

std::optional<Failure> Resolve(const std::vector<Span>& spans, const Session& session,
                               std::vector<Buffer>* buffers, Work* work) {
  for (const Span& span : spans) {
    if (span.length == 0) {
      buffers->push_back({});
      continue;
    }
    std::shared_ptr<const Mapping> keep;
    Result<std::byte*> data = session.arenas().Resolve(span, &keep);
    if (!data.ok()) return data.failure();
    buffers->push_back({*data, span.length});
    const auto& kept = work->mappings;
    if (keep != nullptr && std::find(kept.begin(), kept.end(), keep) == kept.end()) {
      work->mappings.push_back(std::move(keep));
    }
  }
  return std::nullopt;
}

Signature SignatureOf(const WorkRequest& request) {
  Signature signature;
  signature.kind = request.kind;
  signature.dtype = request.dtype;
  signature.op = request.op;
  signature.root = IsRooted(request.kind) ? request.root : 0;
  const std::vector<Span>& spans = request.inputs.empty() ? request.outputs : request.inputs;
  signature.parts = spans.empty() ? 0 : 1;
  const size_t element = SizeOf(request.dtype);
  if (!spans.empty() && element > 0) signature.count = spans.front().length / element;
  return signature;
}

std::optional<Failure> Check(const WorkRequest& request, const AdmitContext& context, Work* work) {
  if (auto failure = CheckOperation(request, context)) return failure;
  if (auto failure = CheckRoot(request, context)) return failure;
  if (auto failure = CheckTimeout(request, context)) return failure;
  if (auto failure = CheckSpans(request, context)) return failure;
  const Session& session = context.session;
  if (auto failure = Resolve(request.inputs, session, &work->buffers.inputs, work)) return failure;
  if (auto failure = Resolve(request.outputs, session, &work->buffers.outputs, work)) {
    return failure;
  }
  return CheckOverlap(*work, context);
}

}  // namespace

std::unique_ptr<Work> Admit(const WorkRequest& request, const AdmitContext& context) {
  auto work = std::make_unique<Work>();
  work->session = context.session.id();
  work->number = request.number;
  work->membership = request.membership;
  work->rank = context.rank;
  work->buffers.rank = context.rank;
  work->signature = SignatureOf(request);
  work->submitted = context.now;
  work->refused = Check(request, context, work.get());
  if (work->refused.has_value()) {
    work->buffers.inputs.clear();
    work->buffers.outputs.clear();
    work->mappings.clear();
  }
  const bool default_timeout = request.timeout <= absl::ZeroDuration();
  work->deadline =
      context.now + (default_timeout ? context.work_timeout
                                     : std::min(request.timeout, context.limits.timeout_max));
  return work;
}

}  // namespace tutti
