#include "daemon/core/admit.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/failpoint.h"
#include "daemon/core/shape.h"

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
  const absl::Status supported = Supports(context.backend, request);
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

std::optional<Failure> CheckSelfOverlap(const Work& work) {
  const auto found = work.footprint.FindSelfOverlap(work.signature.kind, work.rank);
  if (!found.has_value()) return std::nullopt;
  if (!found->other_is_input) {
    return Invalid(absl::StrCat("outputs ", std::min(found->output, found->other), " and ",
                                std::max(found->output, found->other), " overlap"));
  }
  return Invalid(absl::StrCat(
      "input ", found->other, " and output ", found->output,
      " overlap; they must be apart, or the same tensor where the operation works in place"));
}

// A buffer that one work writes may not be named by another in flight, unless both are this rank's
// and of one sequence, whose works run in order.
std::optional<Failure> CheckInFlight(const Work& work, const AdmitContext& context) {
  for (const auto& [number, other] : context.session.in_flight()) {
    if (other.sequence == context.sequence && other.work->rank == work.rank) continue;
    if (Footprint::Collide(work.footprint, other.work->footprint)) {
      return Invalid(
          absl::StrCat("the tensor is in use by ", other.Describe(), ", which is still in flight"));
    }
  }
  return std::nullopt;
}

std::optional<Failure> Resolve(const std::vector<Span>& spans, const Session& session,
                               Buffers* buffers, Work* work) {
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

std::optional<Failure> Check(const WorkRequest& request, const AdmitContext& context, Work* work) {
  if (auto failure = CheckOperation(request, context)) return failure;
  if (auto failure = CheckRoot(request, context)) return failure;
  if (auto failure = CheckTimeout(request, context)) return failure;
  if (auto failure = CheckShape(request, context.rank, context.world_size)) return failure;
  const Session& session = context.session;
  if (auto failure = Resolve(request.inputs, session, &work->buffers.inputs, work)) return failure;
  if (auto failure = Resolve(request.outputs, session, &work->buffers.outputs, work)) {
    return failure;
  }
  work->footprint = Footprint(work->buffers);
  if (auto failure = CheckSelfOverlap(*work)) return failure;
  return CheckInFlight(*work, context);
}

}  // namespace

absl::Status Supports(const Backend& backend, const WorkRequest& request) {
  switch (request.kind) {
    case CollectiveKind::kRecv:
      return backend.Supports(CollectiveKind::kSend, request.dtype, request.op);
    case CollectiveKind::kAgree:
      return backend.Supports(CollectiveKind::kAllreduce, DataType::kBool, ReduceOp::kMin);
    default:
      return backend.Supports(request.kind, request.dtype, request.op);
  }
}

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
    work->footprint.Clear();
  }
  const bool default_timeout = request.timeout <= absl::ZeroDuration();
  work->deadline =
      context.now + (default_timeout ? context.work_timeout
                                     : std::min(request.timeout, context.limits.timeout_max));
  return work;
}

}  // namespace tutti
