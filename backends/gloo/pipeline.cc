#include "backends/gloo/pipeline.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/failpoint.h"

namespace tutti {
namespace {

constexpr size_t kAlignment = 64;

size_t Aligned(size_t size_bytes) {
  return (size_bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

void Scratch::Reset(size_t size_bytes) {
  taken_bytes_ = 0;
  if (size_bytes <= size_bytes_) return;
  memory_.reset();
  memory_.reset(new std::byte[size_bytes + kAlignment]);
  size_bytes_ = size_bytes;
}

std::byte* Scratch::Take(size_t size_bytes) {
  const size_t past_line = reinterpret_cast<uintptr_t>(memory_.get()) % kAlignment;
  const size_t begin = taken_bytes_;
  taken_bytes_ += Aligned(size_bytes);
  TUTTI_CHECK(taken_bytes_ <= size_bytes_);
  return memory_.get() + (kAlignment - past_line) % kAlignment + begin;
}

size_t Pipeline::StepPositions(const Flow& flow) const {
  const size_t bytes = std::max(step_bytes_ / mesh_->nodes(), kAlignment);
  return bytes / kAlignment * kAlignment / flow.element_bytes();
}

size_t Pipeline::ScratchBytes(const Flow& flow) const {
  const size_t me = mesh_->node();
  const size_t positions = StepPositions(flow);
  size_t bytes = 0;
  for (const Route& route : flow.routes()) {
    size_t buffers = 0;
    if (route.owner == me) {
      buffers = route.sources.count() + 1;
    } else {
      buffers = (route.sources[me] ? 1 : 0) + (route.readers[me] ? 1 : 0);
    }
    bytes += buffers * Aligned(std::min(positions, route.size) * flow.element_bytes());
  }
  return bytes;
}

absl::Status Pipeline::Run(const Flow& flow, uint64_t tag) {
  size_t longest = 0;
  for (const Route& route : flow.routes()) longest = std::max(longest, route.size);
  const size_t positions = StepPositions(flow);
  size_t step_count = (longest + positions - 1) / positions;
  // The planted defect: the end is not done, and all is said to be well.
  if (step_count > 1 && Mutated("gloo.skip_last_step")) --step_count;
  const size_t scratch_bytes = ScratchBytes(flow);
  for (size_t i = 0; i < step_count + 2; ++i) {
    if (i < step_count) {
      Step& step = steps_[i % steps_.size()];
      step.number = i;
      step.tag = tag + 2 * i;
      step.scratch.Reset(scratch_bytes);
      Begin(flow, &step);
    }
    absl::Status status;
    if (i >= 1 && i < step_count + 1) status = Combine(flow, &steps_[(i - 1) % steps_.size()]);
    if (status.ok() && i >= 2) status = Finish(flow, &steps_[(i - 2) % steps_.size()]);
    if (status.ok()) continue;
    // Nobody may touch the buffers any more when this returns.
    for (Step& step : steps_) {
      step.routes.clear();
      step.sends.clear();
    }
    return status;
  }
  return absl::OkStatus();
}

void Pipeline::Begin(const Flow& flow, Step* step) {
  const size_t positions = StepPositions(flow);
  for (const Route& route : flow.routes()) {
    const size_t first = std::min(step->number * positions, route.size);
    const Flow::Range range{
        .route = &route, .first = first, .count = std::min(positions, route.size - first)};
    if (flow.BytesOf(range) > 0) step->routes.push_back({.range = range});
  }
  // The sooner a receive is posted, the less its sender waits. But what comes must not arrive where
  // something still has to be fetched from.
  if (flow.sends_in_place()) PostReceives(flow, step);
  PostParts(flow, step);
  if (!flow.sends_in_place()) PostReceives(flow, step);
}

void Pipeline::PostReceives(const Flow& flow, Step* step) {
  const size_t me = mesh_->node();
  for (RouteStep& part : step->routes) {
    const Route& route = *part.range.route;
    const size_t bytes = flow.BytesOf(part.range);
    const auto receive = [&](size_t from, uint64_t tag, bool in_place) {
      std::byte* to = in_place ? flow.OutputOf(part.range) : nullptr;
      if (to == nullptr) to = step->scratch.Take(bytes);
      part.receives.push_back(mesh_->Receive(from, tag, to, bytes));
      return to;
    };
    if (route.owner == me) {
      const bool is_result = flow.copies() && route.readers.none();
      part.parts.resize(mesh_->nodes());
      for (size_t node = 0; node < mesh_->nodes(); ++node) {
        if (route.sources[node] && node != me) {
          part.parts[node] = receive(node, step->tag, is_result);
        }
      }
    } else if (route.readers[me]) {
      part.result = receive(route.owner, step->tag + 1, true);
    }
  }
}

void Pipeline::PostParts(const Flow& flow, Step* step) {
  const size_t me = mesh_->node();
  for (RouteStep& part : step->routes) {
    const Route& route = *part.range.route;
    if (!route.sources[me]) continue;
    const std::byte* const mine = Part(flow, part.range, step);
    if (route.owner == me) {
      part.parts.resize(mesh_->nodes());
      part.parts[me] = mine;
      continue;
    }
    step->sends.push_back(mesh_->Send(route.owner, step->tag, mine, flow.BytesOf(part.range)));
    // Ranks beside a root whose route another node owns.
    if (flow.copies() && !route.readers[me]) flow.CopyOut(part.range, mine);
  }
}

const std::byte* Pipeline::Part(const Flow& flow, const Flow::Range& range, Step* step) const {
  const std::byte* const input = flow.sends_in_place() ? flow.InputOf(range) : nullptr;
  if (input != nullptr) return input;
  std::byte* const combined = step->scratch.Take(flow.BytesOf(range));
  flow.CombineInputs(range, combined);
  return combined;
}

absl::Status Pipeline::Combine(const Flow& flow, Step* step) {
  const size_t me = mesh_->node();
  Failpoint("gloo.mid_pipeline");
  for (RouteStep& part : step->routes) {
    const Route& route = *part.range.route;
    if (route.owner != me) continue;
    for (const Message& receive : part.receives) {
      if (absl::Status status = receive->Wait(); !status.ok()) return status;
    }
    part.receives.clear();
    std::vector<const std::byte*> parts;
    for (const std::byte* const bytes : part.parts) {
      if (bytes != nullptr) parts.push_back(bytes);
    }
    const size_t bytes = flow.BytesOf(part.range);
    const std::byte* result = parts[0];
    if (flow.copies()) {
      flow.CopyOut(part.range, result);
    } else {
      std::byte* const also = route.readers.any() ? step->scratch.Take(bytes) : nullptr;
      flow.CombineParts(part.range, parts, also);
      result = also;
    }
    for (size_t node = 0; node < mesh_->nodes(); ++node) {
      if (!route.readers[node]) continue;
      step->sends.push_back(mesh_->Send(node, step->tag + 1, result, bytes));
    }
  }
  return absl::OkStatus();
}

absl::Status Pipeline::Finish(const Flow& flow, Step* step) {
  for (RouteStep& part : step->routes) {
    if (part.result == nullptr) continue;
    for (const Message& receive : part.receives) {
      if (absl::Status status = receive->Wait(); !status.ok()) return status;
    }
    flow.CopyOut(part.range, part.result);
  }
  for (const Message& send : step->sends) {
    if (absl::Status status = send->Wait(); !status.ok()) return status;
  }
  step->routes.clear();
  step->sends.clear();
  return absl::OkStatus();
}

}  // namespace tutti
