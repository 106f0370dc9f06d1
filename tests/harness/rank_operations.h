// The operations of a rank under test, as commands.
//
//   allreduce GROUP T OP          allreduce_to GROUP IN OUT OP
//   coalesced GROUP LIST OP       coalesced_to GROUP LIST LIST OP
//   reduce GROUP T ROOT OP        reduce_to GROUP IN OUT ROOT OP      (OUT: - where not the root)
//   broadcast GROUP T ROOT        barrier GROUP
//   allgather GROUP IN LIST       gather GROUP IN LIST ROOT           (LIST: - where not the root)
//   scatter GROUP LIST OUT ROOT   reduce_scatter GROUP LIST OUT OP
//   all_to_all GROUP LIST LIST    send GROUP T TO        recv GROUP T FROM
//
// Each may end in a timeout in milliseconds. Tensors and lists: rank_tensors.h.
#pragma once

#include <optional>

#include "client/cpp/tutti.h"
#include "tests/harness/rank_tensors.h"
#include "tests/harness/rank_words.h"

namespace tutti {

// True if `words` starts one of the above, and has enough words.
bool IsOperation(const Words& words);

// Submits it. REQUIRES: IsOperation(words)
Work Submit(const Words& words, const Group& group, const RankTensors& tensors);

}  // namespace tutti
