#include "daemon/core/footprint.h"

#include <algorithm>

#include "daemon/core/shape.h"

namespace tutti {
namespace {

const std::byte* End(const Buffer& buffer) { return buffer.data + buffer.size_bytes; }

bool Before(const Buffer& a, const Buffer& b) { return a.data < b.data; }

std::vector<Buffer> Sorted(const std::vector<Buffer>& buffers) {
  std::vector<Buffer> sorted;
  sorted.reserve(buffers.size());
  for (const Buffer& buffer : buffers) {
    if (buffer.size_bytes > 0) sorted.push_back(buffer);
  }
  std::sort(sorted.begin(), sorted.end(), Before);
  return sorted;
}

// Both by address, and `apart` without overlaps of its own: so one pass, in which the element of
// `apart` to look at only ever moves on.
bool AnyOverlap(const std::vector<Buffer>& some, const std::vector<Buffer>& apart) {
  auto at = apart.begin();
  for (const Buffer& buffer : some) {
    while (at != apart.end() && End(*at) <= buffer.data) ++at;
    if (at == apart.end()) return false;
    if (at->data < End(buffer)) return true;
  }
  return false;
}

// An output with its place, by address.
struct Placed {
  Buffer buffer;
  size_t index = 0;
};

std::vector<Placed> PlacedByAddress(const std::vector<Buffer>& buffers) {
  std::vector<Placed> placed;
  placed.reserve(buffers.size());
  for (size_t i = 0; i < buffers.size(); ++i) {
    if (buffers[i].size_bytes > 0) placed.push_back({buffers[i], i});
  }
  std::sort(placed.begin(), placed.end(),
            [](const Placed& a, const Placed& b) { return Before(a.buffer, b.buffer); });
  return placed;
}

bool Same(const Buffer& a, const Buffer& b) {
  return a.data == b.data && a.size_bytes == b.size_bytes;
}

}  // namespace

Footprint::Footprint(const Participant& participant)
    : reads_(Sorted(participant.inputs)), writes_(Sorted(participant.outputs)) {
  for (const auto* side : {&reads_, &writes_}) {
    for (const Buffer& buffer : *side) {
      if (low_ == nullptr || buffer.data < low_) low_ = buffer.data;
      if (End(buffer) > high_) high_ = End(buffer);
    }
  }
}

bool Footprint::Collide(const Footprint& a, const Footprint& b) {
  if (a.low_ >= b.high_ || b.low_ >= a.high_) return false;
  // What one work writes does not overlap: admission has seen to that.
  return AnyOverlap(a.writes_, b.writes_) || AnyOverlap(a.reads_, b.writes_) ||
         AnyOverlap(b.reads_, a.writes_);
}

std::optional<SelfOverlap> FindSelfOverlap(CollectiveKind kind, const Participant& participant) {
  const std::vector<Placed> outputs = PlacedByAddress(participant.outputs);
  for (size_t i = 1; i < outputs.size(); ++i) {
    if (End(outputs[i - 1].buffer) > outputs[i].buffer.data) {
      return SelfOverlap{outputs[i].index, outputs[i - 1].index, false};
    }
  }
  for (size_t k = 0; k < participant.inputs.size(); ++k) {
    const Buffer& input = participant.inputs[k];
    if (input.size_bytes == 0) continue;
    // The first output that ends behind the input's begin; they are apart, so their ends are in
    // order too.
    auto output = std::partition_point(outputs.begin(), outputs.end(), [&](const Placed& placed) {
      return End(placed.buffer) <= input.data;
    });
    if (output == outputs.end() || output->buffer.data >= End(input)) continue;
    const bool allowed =
        Same(output->buffer, input) && MayShare(kind, participant.rank, k, output->index);
    if (!allowed) return SelfOverlap{output->index, k, true};
  }
  return std::nullopt;
}

}  // namespace tutti
