// What every node has to say, told to every node: an all-gather of short messages of any length.
//
// Dissemination in ceil(log2 nodes) rounds, for any number of nodes: in round r each node passes
// all that it knows on to the node 2^r before it. (Bruck, Ho, Kipnis, Upfal, Weathersbee:
// "Efficient Algorithms for All-to-All Communications in Multiport Message-Passing Systems", IEEE
// TPDS 8(11), 1997, section on concatenation.)
//
// Receives can be posted ahead: their sizes are bounds known beforehand, and Gloo sends a message
// without asking first if its receiver has said that it is ready.
//
// Not thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "backends/gloo/mesh.h"

namespace tutti {

// What one node tells.
struct Frame {
  std::string_view said;     // in words
  std::string_view payload;  // in bytes
};

class AllGather {
 public:
  // `mesh` must outlive it. `frame_bytes_max` bounds the sum of what a frame holds; it must be the
  // same on all nodes.
  AllGather(Mesh* mesh, size_t frame_bytes_max);

  size_t frame_bytes_max() const { return frame_bytes_max_; }

  // Tags that one exchange needs.
  static constexpr uint64_t kTags = 8;

  // Posts all receives of an exchange that uses `tag` to `tag + kTags - 1`. At most two exchanges
  // may be posted and not have been run, and they are run in that order.
  void Post(uint64_t tag);

  // Runs the exchange that was posted first. Blocks. `frames`, by node: views of memory that is
  // valid until the next Run but one is posted.
  //
  // Fails as Mesh::Message::Wait does, or with kInternal if another node breaks the protocol; then
  // it must not be used again.
  absl::Status Run(const Frame& mine, std::vector<Frame>* frames);

 private:
  struct Round {
    size_t distance = 0;  // how far its partners are
    size_t frames = 0;    // that it passes on
    std::unique_ptr<std::byte[]> memory;
    std::unique_ptr<Mesh::Message> message;
  };
  struct Exchange {
    uint64_t tag = 0;
    std::vector<Round> rounds;
    // Frames of this node, the next one, and so on, end to end as they travel.
    std::unique_ptr<std::byte[]> known;
    size_t known_bytes = 0;
  };

  size_t RoundBytes(const Round& round) const;
  size_t Partner(size_t ahead) const { return (mesh_->node() + ahead) % mesh_->nodes(); }
  static void Append(const Frame& frame, Exchange* exchange);
  // Moves the frames that a round has received to those that are known.
  absl::Status Learn(const Round& round, Exchange* exchange) const;

  Mesh* const mesh_;
  const size_t frame_bytes_max_;
  std::array<Exchange, 2> exchanges_;
  size_t posted_ = 0;
  size_t run_ = 0;
};

}  // namespace tutti
