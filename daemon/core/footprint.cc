#include "daemon/core/footprint.h"

#include <algorithm>

#include "daemon/core/shape.h"

namespace tutti {
namespace {

using Placed = Footprint::Placed;
using PlacedBuffers = Footprint::PlacedBuffers;

const std::byte* End(const Buffer& buffer) { return buffer.data + buffer.size_bytes; }

PlacedBuffers ByAddress(const Buffers& buffers) {
  PlacedBuffers placed;
  placed.reserve(buffers.size());
  for (size_t i = 0; i < buffers.size(); ++i) {
    if (buffers[i].size_bytes > 0) placed.push_back({buffers[i], i});
  }
  std::sort(placed.begin(), placed.end(),
            [](const Placed& a, const Placed& b) { return a.buffer.data < b.buffer.data; });
  return placed;
}

// Both by address, and `apart` without overlaps of its own: so one pass, in which the element of
// `apart` to look at only ever moves on.
bool AnyOverlap(const PlacedBuffers& some, const PlacedBuffers& apart) {
  auto at = apart.begin();
  for (const auto& [buffer, index] : some) {
    while (at != apart.end() && End(at->buffer) <= buffer.data) ++at;
    if (at == apart.end()) return false;
    if (at->buffer.data < End(buffer)) return true;
  }
  return false;
}

bool Same(const Buffer& a, const Buffer& b) {
  return a.data == b.data && a.size_bytes == b.size_bytes;
}

}  // namespace

Footprint::Footprint(const Participant& participant)
    : reads_(ByAddress(participant.inputs)), writes_(ByAddress(participant.outputs)) {
  for (const auto* side : {&reads_, &writes_}) {
    for (const auto& [buffer, index] : *side) {
      if (low_ == nullptr || buffer.data < low_) low_ = buffer.data;
      if (End(buffer) > high_) high_ = End(buffer);
    }
  }
}

void Footprint::Clear() {
  reads_.clear();
  writes_.clear();
  low_ = high_ = nullptr;
}

bool Footprint::Collide(const Footprint& a, const Footprint& b) {
  if (a.low_ >= b.high_ || b.low_ >= a.high_) return false;
  // What one work writes does not overlap: admission has seen to that.
  return AnyOverlap(a.writes_, b.writes_) || AnyOverlap(a.reads_, b.writes_) ||
         AnyOverlap(b.reads_, a.writes_);
}

std::optional<SelfOverlap> Footprint::FindSelfOverlap(CollectiveKind kind, Rank rank) const {
  for (size_t i = 1; i < writes_.size(); ++i) {
    if (End(writes_[i - 1].buffer) > writes_[i].buffer.data) {
      return SelfOverlap{writes_[i].index, writes_[i - 1].index, false};
    }
  }
  for (const auto& [input, index] : reads_) {
    // The first output that ends behind the input's begin; they are apart, so their ends are in
    // order too.
    const auto output = std::partition_point(
        writes_.begin(), writes_.end(),
        [begin = input.data](const Placed& placed) { return End(placed.buffer) <= begin; });
    if (output == writes_.end() || output->buffer.data >= End(input)) continue;
    const bool allowed = Same(output->buffer, input) && MayShare(kind, rank, index, output->index);
    if (!allowed) return SelfOverlap{output->index, index, true};
  }
  return std::nullopt;
}

}  // namespace tutti
