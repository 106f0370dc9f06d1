// The arenas of one session, from the memfd to the last unmapping.
//
//   Create      offered: the client has the memfd, and allocates and maps it
//   StartAdopt  adopting: the mapper verifies, maps and seals it
//   FinishAdopt ready: works may name it
//   Release     gone from here; unmapped when the last work that names it has ended
//
// Lives on the control loop. Bytes count against the quota from Create until the memory is
// unmapped: what the daemon still has mapped, the node still has to hold.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "base/result.h"
#include "base/task_runner.h"
#include "base/unique_fd.h"
#include "daemon/core/ids.h"
#include "daemon/core/limits.h"
#include "daemon/core/requests.h"
#include "shm/mapping.h"

namespace tutti {

// Bytes of all arenas of the daemon. Lives on the control loop; outlives what it counts by being
// shared with it.
struct ArenaAccount {
  uint64_t bytes = 0;
};

// Where arenas are mapped and unmapped, and where that is told.
struct ArenaRunners {
  SequencedTaskRunner* loop = nullptr;
  TaskRunner* mapper = nullptr;
};

struct ArenaCharge;

// What the mapper does with an arena: made on the loop, worked on by the mapper, handed back to the
// loop, where it also ends. Needs no table: the session may have ended meanwhile.
class ArenaAdoption {
 public:
  ArenaAdoption(UniqueFd file, uint64_t size_bytes, ArenaRunners runners,
                std::shared_ptr<ArenaCharge> charge);

  // On the mapper. Verifies, maps and seals it.
  absl::Status Map();
  // What Map made. However its last share goes, it is unmapped on the mapper.
  const std::shared_ptr<const Mapping>& mapping() const { return mapping_; }

 private:
  const UniqueFd file_;
  const uint64_t size_bytes_;
  const ArenaRunners runners_;
  const std::shared_ptr<ArenaCharge> charge_;
  std::shared_ptr<const Mapping> mapping_;
};

class ArenaTable {
 public:
  ArenaTable(const Limits* limits, ArenaRunners runners, std::shared_ptr<ArenaAccount> account);
  ArenaTable(ArenaTable&&) = default;
  ~ArenaTable();

  // Makes the memfd. Fails with kInvalid, kLimit.
  Result<ArenaId> Create(uint64_t size_bytes);
  // The memfd of an offered arena; -1 if there is none.
  int FdOf(ArenaId arena) const;

  // Takes an offered arena, to be mapped off the loop. Fails with kNotFound, kInvalid.
  Result<std::shared_ptr<ArenaAdoption>> StartAdopt(ArenaId arena);
  // The mapper has mapped it. False if the arena was released meanwhile.
  bool FinishAdopt(ArenaId arena, const ArenaAdoption& adoption);

  // Gives an arena up; `unmapped` runs on the loop when its memory is gone. Fails with kNotFound.
  std::optional<Failure> Release(ArenaId arena, std::function<void()> unmapped);

  // Finds the bytes of a span. `keep` gets a share of the mapping's ownership. Fails with kInvalid:
  // no such arena, not ready, out of bounds.
  Result<std::byte*> Resolve(const Span& span, std::shared_ptr<const Mapping>* keep) const;

  size_t count() const { return arenas_.size(); }
  uint64_t bytes() const { return bytes_; }

 private:
  struct Arena;

  const Limits* limits_;
  ArenaRunners runners_;
  std::shared_ptr<ArenaAccount> account_;
  std::map<ArenaId, std::shared_ptr<Arena>> arenas_;
  ArenaId last_id_ = 0;
  // Of the arenas that are in the table.
  uint64_t bytes_ = 0;
};

}  // namespace tutti
