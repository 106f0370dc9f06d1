// The daemon without its sockets: sessions, arenas, groups, works, and every decision about them.
//
// Transports and tests call it. Nothing in here knows gRPC, protobuf, CUDA or Gloo.
//
// Thread: every method but snapshot() is called on `Dependencies::loop`, and asserts it. Callbacks
// run there as well, never inside the call that was given them.
//
// Ownership: the core owns its sessions and groups; what `Dependencies` points to must outlive it.
// Before it is destroyed, workers and mapper must have run out of tasks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "base/clock.h"
#include "base/result.h"
#include "base/task_runner.h"
#include "daemon/cluster/peers.h"
#include "daemon/core/ids.h"
#include "daemon/core/lane.h"
#include "daemon/core/limits.h"
#include "daemon/core/process.h"
#include "daemon/core/requests.h"
#include "daemon/core/snapshot.h"
#include "shm/mapping.h"

namespace tutti {

// The core's doors to the world.
struct Dependencies {
  const Clock* clock = nullptr;
  SequencedTaskRunner* loop = nullptr;
  // Runs collectives too large for the loop; mapping and unmapping of arenas (85 ms per GiB).
  TaskRunner* workers = nullptr;
  TaskRunner* mapper = nullptr;
  const ProcessProbe* processes = nullptr;
  // Fills `size` random bytes; what epoch ids are made of.
  std::function<void(void* bytes, size_t size)> random;
  // In the order in which "auto" prefers them.
  std::vector<Backend*> backends;
  // Makes a runner of one thread, for what blocks: a few for each group over several nodes. Their
  // destruction waits for the thread. May be empty where there is no network.
  std::function<std::unique_ptr<TaskRunner>(const std::string& name)> make_runner;
  // Where those are destroyed: a group that no longer forms may have to wait for its connections.
  // Of its own, since nothing else may wait for that. Null where there is no network.
  TaskRunner* reaper = nullptr;
  // Null: a node of its own.
  PeerNetwork* network = nullptr;
};

// A new arena. `fd` is the memfd to send to the client; the core keeps it and may close it after
// the call that returned it.
struct ArenaOffer {
  ArenaId arena = 0;
  int fd = -1;
};

// Bytes of a session's arena, which stay mapped while `keep` lives.
struct ArenaView {
  std::byte* data = nullptr;
  std::shared_ptr<const Mapping> keep;
};

// The group is ready.
struct Joined {
  MembershipId membership = 0;
  uint64_t epoch = 0;
  std::string epoch_id;  // 16 bytes
  // Deadline of works that set none.
  absl::Duration work_timeout;
};

// Ends an asynchronous request: nothing on success.
using DoneCallback = std::function<void(std::optional<Failure>)>;
using JoinCallback = std::function<void(Result<Joined>)>;

class Core {
 public:
  Core(Limits limits, Dependencies dependencies);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // --- Sessions ---

  // Fails with kLimit (too many), kDraining, kInvalid (names).
  Result<SessionId> OpenSession(SessionInfo info);

  // Ends a session: its unmatched works and its groups fail, naming its ranks; its matched works
  // run to their end; its memory is unmapped after that. Unknown ids are ignored: a session that
  // the core has ended itself may hang up later.
  void CloseSession(SessionId session, SessionEnd end);

  // --- Arenas (the steps of design.md, Memory) ---

  // Creates a memfd of `size_bytes` (a multiple of 4096). Fails with kLimit, kInvalid, kNotFound.
  Result<ArenaOffer> CreateArena(SessionId session, uint64_t size_bytes);

  // The client has allocated and mapped: verifies that, maps, seals; then works may name it. Fails
  // with kInvalid (blocks missing: the client must fallocate), kNotFound.
  void ArenaMapped(SessionId session, ArenaId arena, DoneCallback done);

  // Finds the bytes of a span, for the lanes. Fails with kInvalid (no such arena, not ready, out of
  // bounds), kNotFound.
  Result<ArenaView> View(SessionId session, const Span& span) const;

  // The client needs it no more. `done` runs when it is unmapped, after the works that name it.
  void ReleaseArena(SessionId session, ArenaId arena, DoneCallback done);

  // --- Groups ---

  // Takes a seat; `done` runs when the group is ready or can't be. Returns a number for CancelJoin.
  JoinId Join(SessionId session, const JoinRequest& request, JoinCallback done);

  // The caller waits no more (`done` will not run). Gives the seat back unless the group is ready.
  void CancelJoin(JoinId join);

  // Gives a seat back, once the session's work number `after_work` has been received: the call that
  // asks for it may overtake works on their lane. Then `done` runs. Idempotent; unknown memberships
  // are ignored.
  void Leave(SessionId session, MembershipId membership, WorkNumber after_work, DoneCallback done);

  // The same, for who has called a join off and can't know how it has ended, by the number that the
  // session has given it (JoinRequest::number). If it still waits, its `done` will not run.
  void CallOff(SessionId session, uint64_t join_number, DoneCallback done);

  // --- Works ---

  // Makes `lane` the session's lane, closing the one before, and delivers the completions after
  // serial `acknowledged` again. Returns the last work number received. Fails with kNotFound, and
  // with kProtocol if there has been no such completion.
  Result<WorkNumber> Attach(SessionId session, Lane* lane, uint64_t acknowledged);

  // `lane` is gone. Fails nothing: completions wait for the next lane. Ignored if it is not
  // current.
  void Detach(SessionId session, Lane* lane);

  // Takes a work. Its completion is delivered on the session's lane, also when it is refused.
  // A broken protocol (a gap in the numbers, too many in flight) is returned and ends the session:
  // the transport closes the session's socket.
  std::optional<Failure> Submit(SessionId session, const WorkRequest& request);

  // Forgets completions up to `serial`. Fails with kProtocol if there has been no such completion.
  std::optional<Failure> Acknowledge(SessionId session, uint64_t serial);

  // --- Life ---

  // Refuses new sessions and joins from now on. `idle` runs once no work is in flight.
  void Drain(std::function<void()> idle);

  // Ends every session, as if each had hung up, with cause kDraining. For the end of a drain.
  void CloseAllSessions();

  // What the network tells; to be told on the loop.
  PeerListener* peers();

  // The latest snapshot, never null. From any thread; does not touch the loop.
  std::shared_ptr<const Snapshot> snapshot() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tutti
