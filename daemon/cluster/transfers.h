// What the nodes of a pair of ranks say to each other about transfers
// (daemon/core/group_transfers.cc).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/failure.h"
#include "base/types.h"
#include "daemon/cluster/nouns.h"

namespace tutti {

// The source has submitted its send number `place.sequence`.
struct SendReady {
  EpochId epoch_id;
  Place place;
  DataType dtype = DataType::kNone;
  uint64_t count = 0;
  // The bytes of a small one, which has completed at the source.
  std::optional<std::string> data;
  // It was refused there: the receiver is told.
  std::optional<Failure> refused;
  friend bool operator==(const SendReady&, const SendReady&) = default;
};

// The destination's recv has met it: both run the transfer now, or fail it with `failure`.
struct SendTaken {
  EpochId epoch_id;
  Place place;
  std::optional<Failure> failure;
  friend bool operator==(const SendTaken&, const SendTaken&) = default;
};

}  // namespace tutti
