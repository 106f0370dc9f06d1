// One client process: its arenas, its seats, its works in flight, and what it has yet to be told.
//
// A session lives as long as its session socket. Lives on the control loop; owned by the core.
//
// The invariant that teardown protects: memory is unmapped only after every communicator that could
// touch it has left Run. A work shares the ownership of the mappings that it names, an operation
// owns its works until Run has returned; so ending a session only drops its own share.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "base/failure.h"
#include "daemon/core/arena_table.h"
#include "daemon/core/ids.h"
#include "daemon/core/lane.h"
#include "daemon/core/requests.h"
#include "daemon/core/send_buffer.h"
#include "daemon/core/snapshot.h"

namespace tutti {

class OpSequence;
struct Operation;
struct Work;

// A work in flight, as its session sees it. Pointers are valid until the work completes.
struct InFlight {
  const Work* work = nullptr;
  const Operation* operation = nullptr;
  const OpSequence* sequence = nullptr;
  const std::string* group = nullptr;

  // "allreduce #12 of group "dp"".
  std::string Describe() const;
};

// Fails with kInvalid if a name is too long.
std::optional<Failure> CheckNames(const SessionInfo& info);

// What the other ranks are told of such an end.
Cause CauseOf(SessionEnd end);

class Session {
 public:
  Session(SessionId id, SessionInfo info, MonotonicTime opened, ArenaTable arenas,
          std::shared_ptr<SendBudget> send_budget);

  SessionId id() const { return id_; }
  const SessionInfo& info() const { return info_; }
  ArenaTable& arenas() { return arenas_; }
  const ArenaTable& arenas() const { return arenas_; }
  const std::shared_ptr<SendBudget>& send_budget() const { return send_budget_; }

  // "session 4, pid 811, "trainer-3"".
  std::string Describe() const;

  // Takes the number of the next work. Fails with kProtocol if it is not the next, or if more than
  // `in_flight_max` works or four times as many unacknowledged completions are outstanding.
  std::optional<Failure> TakeNumber(WorkNumber number, uint64_t in_flight_max);
  WorkNumber last_received() const { return last_received_; }

  // Runs `leave` once work `after` has been received: at once, or from RunDueLeaves, which the core
  // calls after each work. False if that has been asked for already: then it does nothing.
  bool LeaveAfter(WorkNumber after, MembershipId membership, std::function<void()> leave);
  void RunDueLeaves();
  // The session ends: what was to come will not.
  void RunAllLeaves();

  // By number, so that the first is the oldest.
  std::map<WorkNumber, InFlight>& in_flight() { return in_flight_; }
  const std::map<WorkNumber, InFlight>& in_flight() const { return in_flight_; }

  // Records the end of a work, and tells the lane if there is one.
  void Complete(WorkNumber number, std::optional<Failure> failure);
  // Fails with kProtocol if there has been no such completion.
  std::optional<Failure> Acknowledge(uint64_t serial);

  // Replaces the lane, closing the one before, and tells the new one again what came after
  // `acknowledged`. Fails as Acknowledge, and then leaves all as it was.
  std::optional<Failure> Attach(Lane* lane, uint64_t acknowledged);
  void Detach(Lane* lane);
  // Closes the lane, if there is one.
  void CloseLane(const Failure& reason);

  std::set<MembershipId>& memberships() { return memberships_; }

  SessionSnapshot Show() const;

 private:
  const SessionId id_;
  const SessionInfo info_;
  const MonotonicTime opened_;
  ArenaTable arenas_;
  const std::shared_ptr<SendBudget> send_budget_;
  Lane* lane_ = nullptr;
  WorkNumber last_received_ = 0;
  struct DeferredLeave {
    WorkNumber after = 0;
    std::function<void()> leave;
  };
  std::map<MembershipId, DeferredLeave> leaves_;
  std::map<WorkNumber, InFlight> in_flight_;
  // Delivered, or waiting for a lane; not yet acknowledged. Oldest first.
  std::deque<Completion> completions_;
  uint64_t last_serial_ = 0;
  std::set<MembershipId> memberships_;
};

}  // namespace tutti
