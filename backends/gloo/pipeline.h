// Runs a large Flow in steps: while one step's elements travel, the next one's are combined.
//
// Not thread-safe: one at a time, on the thread of Run.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "backends/gloo/flow.h"
#include "backends/gloo/mesh.h"

namespace tutti {

// Memory that one step works in, handed out from its beginning.
class Scratch {
 public:
  // Takes back all, and makes room for `size_bytes`. Keeps what it has if that is enough.
  void Reset(size_t size_bytes);

  // REQUIRES: that much is left.
  std::byte* Take(size_t size_bytes);

 private:
  std::unique_ptr<std::byte[]> memory_;
  size_t size_bytes_ = 0;
  size_t taken_bytes_ = 0;
};

class Pipeline {
 public:
  // `mesh` must outlive it. `step_bytes`: of all routes together, in each step; the same on all
  // nodes. Keeps at most 9 times as much and a bit as memory for the next Run.
  Pipeline(Mesh* mesh, size_t step_bytes) : mesh_(mesh), step_bytes_(step_bytes) {}

  // Uses tags from `tag` on, two for each step. Blocks. Fails as Mesh::Message::Wait does.
  absl::Status Run(const Flow& flow, uint64_t tag);

 private:
  using Message = std::unique_ptr<Mesh::Message>;

  // One route's part of one step, on this node.
  struct RouteStep {
    Flow::Range range;
    // Parts that this node combines, by node, or the only one that it sends.
    std::vector<const std::byte*> parts;
    const std::byte* result = nullptr;
    std::vector<Message> receives;
  };
  struct Step {
    size_t number = 0;
    uint64_t tag = 0;
    std::vector<RouteStep> routes;
    std::vector<Message> sends;
    Scratch scratch;
  };

  // Three stages. Parts leave, and all receives are posted.
  void Begin(const Flow& flow, Step* step);
  // Parts have come; their results leave.
  absl::Status Combine(const Flow& flow, Step* step);
  // Results have come; nothing of this step is under way any more.
  absl::Status Finish(const Flow& flow, Step* step);

  void PostReceives(const Flow& flow, Step* step);
  void PostParts(const Flow& flow, Step* step);
  // What this node has of the range.
  const std::byte* Part(const Flow& flow, const Flow::Range& range, Step* step) const;

  // How many positions of a route are in one step.
  size_t StepPositions(const Flow& flow) const;
  size_t ScratchBytes(const Flow& flow) const;

  Mesh* const mesh_;
  const size_t step_bytes_;
  // A step is in each stage.
  std::array<Step, 3> steps_;
};

}  // namespace tutti
