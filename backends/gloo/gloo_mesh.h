// A Mesh over Gloo: one Gloo rank per node, TCP between all pairs of them.
//
// Gloo is used below its collectives, for messages only (unbound buffers). What it needs care for,
// all of it read in or measured with the version that Debian packages (0.5.0, 5b14351):
//   * It ends the process if a message is longer than what it is received in. See Mesh.
//   * A wait that times out closes all connections of the group: so no wait has a timeout, and
//     Abort wakes them.
//   * If a connection breaks, only receives that have not begun are told; one whose first bytes
//     have arrived, and sends, would wait for ever. So each mesh has a thread that waits for a
//     message that nobody sends: it is told, and wakes the others.
//   * It writes to sockets that may be closed: SIGPIPE must be ignored.
//   * Its listening sockets take whoever connects first: the network must be trusted.
//
// Thread-safe. Owned by its communicator; messages must not outlive it.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "backends/gloo/gloo_loop.h"
#include "backends/gloo/mesh.h"
#include "base/mutex.h"
#include "base/thread.h"

namespace gloo {
class Context;
namespace transport {
class UnboundBuffer;
}  // namespace transport
}  // namespace gloo

namespace tutti {

class GlooMesh final : public Mesh {
 public:
  // Meets the other nodes by `spec.meet` and connects with all of them. Blocks; when they have met,
  // for half a minute per node at most. Fails as `spec.meet` does, or with kUnavailable.
  static absl::StatusOr<std::unique_ptr<GlooMesh>> Connect(std::shared_ptr<GlooLoop> loop,
                                                           const GroupSpec& spec);

  // Blocks for some 10 ms per node. Other nodes see the end of the connections behind everything
  // that was sent, unless the mesh was aborted.
  ~GlooMesh() override;

  size_t nodes() const override { return nodes_; }
  size_t node() const override { return node_; }

  std::unique_ptr<Message> Send(size_t to, uint64_t tag, const std::byte* data,
                                size_t size_bytes) override;
  std::unique_ptr<Message> Receive(size_t from, uint64_t tag, std::byte* data,
                                   size_t size_bytes) override;

  // The connections themselves are closed by another thread, some milliseconds later.
  void Abort() override;

 private:
  class GlooMessage;

  GlooMesh(std::shared_ptr<GlooLoop> loop, std::shared_ptr<gloo::Context> context, size_t nodes,
           size_t node);

  std::unique_ptr<gloo::transport::UnboundBuffer> MakeBuffer(std::byte* data, size_t size_bytes);

  // Enters the message, or returns why it can't be sent any more.
  absl::Status Enter(GlooMessage* message) ABSL_LOCKS_EXCLUDED(mutex_);
  void Leave(GlooMessage* message) ABSL_LOCKS_EXCLUDED(mutex_);
  // Why messages to and from `node` fail.
  absl::Status WhyFailed(size_t node) ABSL_LOCKS_EXCLUDED(mutex_);
  // The first reason counts.
  void Lose(size_t node, const std::string& reason) ABSL_LOCKS_EXCLUDED(mutex_);
  // What is lost from now on, is lost because `node` was. False if the mesh has been aborted.
  bool Condemn(size_t node) ABSL_LOCKS_EXCLUDED(mutex_);

  // The thread's. It waits until a connection breaks, finds out which, and waits again.
  void Watch();
  // Waits for a message from any node. Returns when a connection has broken, or it is time to end.
  void WatchOnce() ABSL_LOCKS_EXCLUDED(mutex_);

  bool aborted() ABSL_LOCKS_EXCLUDED(mutex_);

  const std::shared_ptr<GlooLoop> loop_;
  const size_t nodes_;
  const size_t node_;
  const std::shared_ptr<gloo::Context> context_;

  // Gloo closes a connection with its lock held, and waits for its loop meanwhile. So the loop must
  // not wait for that lock: who closes holds this, and the loop posts nothing then.
  Mutex closing_;

  Mutex mutex_;
  bool aborted_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  // By node: that it is lost, and why, or nothing.
  std::vector<std::string> lost_ ABSL_GUARDED_BY(mutex_);
  std::string condemned_ ABSL_GUARDED_BY(mutex_);  // what is said of all others then
  std::set<GlooMessage*> messages_ ABSL_GUARDED_BY(mutex_);
  gloo::transport::UnboundBuffer* watched_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::unique_ptr<Thread> watcher_;
};

}  // namespace tutti
