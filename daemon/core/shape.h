// What each kind of operation takes: how many tensors on either side, of which lengths, and which
// output may lie on which input. The table is that of Work in tutti/v1/client.proto.
//
// Pure functions, thread-safe. Nothing in here looks at another rank: what ranks must agree on is
// the Signature (work.h) and the rules of match.h.
#pragma once

#include <cstddef>
#include <optional>

#include "backends/backend.h"
#include "base/failure.h"
#include "base/types.h"
#include "daemon/core/requests.h"
#include "daemon/core/work.h"

namespace tutti {

// The side whose lengths all ranks have alike: the inputs, or the outputs of who has no input and
// of who has a list to be shared out.
template <typename Tensors>
const Tensors& AlikeSide(CollectiveKind kind, const Tensors& inputs, const Tensors& outputs) {
  const bool shared_out =
      kind == CollectiveKind::kScatter || kind == CollectiveKind::kReduceScatter;
  return shared_out || inputs.empty() ? outputs : inputs;
}

// Checks the number of tensors and their lengths, as `rank` of `world_size` submits them. Fails
// with kInvalid, saying what the operation takes, and with kLimit.
std::optional<Failure> CheckShape(const WorkRequest& request, Rank rank, uint32_t world_size);

// May output `output` of rank `rank` be the very bytes of its input `input`?
bool MayShare(CollectiveKind kind, Rank rank, size_t input, size_t output);

// What all ranks must agree on. REQUIRES: CheckShape passed, or the result is only shown.
Signature SignatureOf(const WorkRequest& request);

}  // namespace tutti
