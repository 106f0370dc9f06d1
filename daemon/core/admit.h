// Admission: is this work well-formed, by itself? Everything a client can get wrong alone is found
// here, before other ranks or any memory are concerned. No number that a client sent is used
// unchecked after this step.
//
// Pure logic on the control loop.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "backends/backend.h"
#include "daemon/core/limits.h"
#include "daemon/core/match.h"
#include "daemon/core/requests.h"
#include "daemon/core/session.h"
#include "daemon/core/work.h"

namespace tutti {

// What admission has to know of the group.
struct AdmitContext {
  const Session& session;
  const Limits& limits;
  const Backend& backend;
  Rank rank = 0;
  uint32_t world_size = 0;
  absl::Duration work_timeout;
  // Where the work will go: a buffer may be in use by the works before it in this sequence only.
  const OpSequence* sequence = nullptr;
  MonotonicTime now;
};

// Always returns a work: one with resolved buffers, or one with `refused` set, which takes its
// place in the sequence all the same.
std::unique_ptr<Work> Admit(const WorkRequest& request, const AdmitContext& context);

// Would the backend run it? As the backend sees it: an agree is an allreduce, a recv a part of a
// send.
absl::Status Supports(const Backend& backend, const WorkRequest& request);

}  // namespace tutti
