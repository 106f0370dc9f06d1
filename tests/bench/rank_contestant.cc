#include "tests/bench/rank_contestant.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/bench/barrier.h"

namespace tutti::bench {
namespace {

// What no operation results in.
constexpr float kPoison = -1;
// As the large pages' alignment is not asked for, a cache line has to do.
constexpr size_t kAlignment = 64;

std::vector<absl::Span<float>> Split(float* memory, size_t parts, size_t count) {
  std::vector<absl::Span<float>> spans;
  for (size_t part = 0; part < parts; ++part) spans.emplace_back(memory + part * count, count);
  return spans;
}

}  // namespace

void RankContestant::Allocate(Operation operation, size_t bytes) {
  operation_ = operation;
  checked_ = false;
  failure_.clear();
  shape_ = ShapeOf(operation, place_, bytes);
  buffers_ = MakeBuffers(shape_);
}

void RankContestant::Fill() {
  for (const absl::Span<float> output : buffers_.outputs) {
    for (float& element : output) element = kPoison;
  }
  for (size_t part = 0; part < buffers_.inputs.size(); ++part) {
    const absl::Span<float> input = buffers_.inputs[part];
    for (size_t i = 0; i < input.size(); ++i) input[i] = InputValue(place_.rank, part, i);
  }
}

std::string RankContestant::Check() {
  checked_ = true;
  if (!failure_.empty()) return failure_;
  for (size_t part = 0; part < buffers_.outputs.size(); ++part) {
    const absl::Span<float> output = buffers_.outputs[part];
    for (size_t i = 0; i < output.size(); ++i) {
      const float wanted = ResultValue(operation_, place_, part, i);
      if (output[i] == wanted) continue;
      return absl::StrCat("rank ", place_.rank, ", output ", part, ", element ", i, ": ", output[i],
                          " instead of ", wanted);
    }
  }
  return "";
}

void RankContestant::Evict() const {
  for (const auto* list : {&buffers_.inputs, &buffers_.outputs}) {
    for (const absl::Span<float> part : *list) {
      bench::Evict(part.data(), part.size() * sizeof(float));
    }
  }
}

void RankContestant::Fail(const std::string& message) {
  if (checked_) Die(message);
  failure_ = absl::StrCat("failed: ", message);
}

void RankContestant::Drop() {
  buffers_ = {};
  FreeBuffers();
}

Buffers PlainMemory::Make(const Shape& shape) {
  inputs_ = MakeMemory(shape.inputs * shape.count);
  Buffers buffers = {.inputs = Split(inputs_.get(), shape.inputs, shape.count)};
  if (shape.in_place) {
    buffers.outputs.assign(buffers.inputs.begin(),
                           buffers.inputs.begin() + static_cast<std::ptrdiff_t>(shape.outputs));
  } else {
    outputs_ = MakeMemory(shape.outputs * shape.count);
    buffers.outputs = Split(outputs_.get(), shape.outputs, shape.count);
  }
  return buffers;
}

void PlainMemory::Free() {
  inputs_.reset();
  outputs_.reset();
}

PlainMemory::Memory PlainMemory::MakeMemory(size_t count) {
  if (count == 0) return nullptr;
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, count * sizeof(float)) != 0) Die("out of memory");
  return Memory(static_cast<float*>(memory));
}

}  // namespace tutti::bench
