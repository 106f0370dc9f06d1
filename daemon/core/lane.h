// How completions reach a client: the core's view of the gRPC stream, or of the ring.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/failure.h"
#include "daemon/core/ids.h"

namespace tutti {

// The end of one work.
struct Completion {
  uint64_t serial = 0;  // counts the session's completions 1, 2, 3...
  WorkNumber number = 0;
  std::optional<Failure> failure;  // none: success
};

// Implemented by the transport. Called on the control loop only, and must not block or call back
// into the core from within a call.
class Lane {
 public:
  virtual ~Lane() = default;

  // "grpc" or "ring".
  virtual std::string_view name() const = 0;

  // Why it is not the ring, for people; empty if its client has not said.
  virtual std::string_view no_ring() const { return {}; }

  // Tells the client. The core keeps the completion until it is acknowledged, so a lane may lose
  // it.
  virtual void Deliver(const Completion& completion) = 0;

  // The core wants this lane no more: another has taken its place, or the session has ended. The
  // core does not touch the lane after that.
  virtual void Close(const Failure& reason) = 0;
};

}  // namespace tutti
