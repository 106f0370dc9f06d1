// The bytes that a work reads and writes, ordered so that two works are compared in one pass: a
// work may have a thousand tensors, and a session a thousand works in flight.
//
// A value on the control loop.
#pragma once

#include <cstddef>
#include <optional>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "backends/backend.h"
#include "base/types.h"

namespace tutti {

// Within one work: what overlaps although it must not.
struct SelfOverlap {
  // Two outputs; or an output and the input `other`.
  size_t output = 0;
  size_t other = 0;
  bool other_is_input = false;
};

class Footprint {
 public:
  // A buffer, and which input or output it is.
  struct Placed {
    Buffer buffer;
    size_t index = 0;
  };

  using PlacedBuffers = absl::InlinedVector<Placed, 1>;

  Footprint() = default;
  explicit Footprint(const Participant& participant);

  void Clear();

  // Finds an output that overlaps another, or an input that it may not be the very bytes of, in
  // an operation of that kind by `rank`.
  std::optional<SelfOverlap> FindSelfOverlap(CollectiveKind kind, Rank rank) const;

  // Does one of them write what the other reads or writes? REQUIRES of both: no self-overlap.
  static bool Collide(const Footprint& a, const Footprint& b);

 private:
  // By address; without empty ones.
  PlacedBuffers reads_;
  PlacedBuffers writes_;
  // Of all of them: most works are far apart, and this tells.
  const std::byte* low_ = nullptr;
  const std::byte* high_ = nullptr;
};

}  // namespace tutti
