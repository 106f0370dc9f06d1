// The backend for groups over several nodes: messages by Gloo, everything else is ours.
//
// Thread-safe. The daemon's main owns it; it outlives its communicators. SIGPIPE must be ignored in
// the whole process, as Gloo writes to sockets whose other end may be gone.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "backends/gloo/mesh_communicator.h"
#include "backends/local/kernels.h"
#include "base/mutex.h"

namespace tutti {

class GlooLoop;

class GlooBackend final : public Backend {
 public:
  // `address`: this machine's, by which other nodes reach it: IPv4 or IPv6, in numbers (Gloo takes
  // a name that cannot be resolved for an address and crashes). Each connection has a port of its
  // own, chosen by the system, which takes whoever connects first: the network must be trusted.
  // Empty: what the first group's spec says.
  explicit GlooBackend(std::string address, const MeshTuning& tuning = {});
  ~GlooBackend() override;

  std::string_view name() const override { return "gloo"; }

  // As the local backend: what KernelsSupport says.
  absl::Status Supports(CollectiveKind kind, DataType dtype, ReduceOp op) const override;

  // Fails with kInvalidArgument if the group has too many nodes or its ranks are not in order, with
  // kFailedPrecondition if the address is none of this machine or SIGPIPE is not ignored, with
  // kUnavailable if the nodes met and could not be connected, or as `spec.meet` does.
  absl::StatusOr<std::unique_ptr<Communicator>> Connect(const GroupSpec& spec) override;

  // See topology.h.
  size_t nodes_max() const override { return kGlooNodesMax; }

 private:
  // One for all groups, as each has a thread. Made when it is first needed.
  absl::StatusOr<std::shared_ptr<GlooLoop>> Loop(const std::string& host)
      ABSL_LOCKS_EXCLUDED(mutex_);

  const std::string address_;
  const MeshTuning tuning_;
  const KernelTable& kernels_;

  Mutex mutex_;
  std::shared_ptr<GlooLoop> loop_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tutti
