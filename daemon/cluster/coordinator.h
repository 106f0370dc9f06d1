// The coordinator of one epoch: it decides when the epoch is live, and how it ends. Once.
//
//   entering ──► meeting ──► live ──► over
//                              └► live, closed: a rank has left, others still complete what they
//                              had
//
// Before it is live anything that goes wrong ends it. Then the first failure does, and all nodes
// that can be reached are told the same. It lives on the node of the lowest rank; that node's own
// part in the epoch speaks to it like all others.
//
// Lives on the control loop.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/deadline_queue.h"
#include "daemon/cluster/messages.h"

namespace tutti {

// How long nodes have to say who has not arrived. Those who do not are named for it.
inline constexpr absl::Duration kInquiryTimeout = absl::Seconds(1);

// How long a communicator's error is kept back: where a connection ends, the daemon at its other
// end has mostly died, and that is what people want to know.
inline constexpr absl::Duration kSuspicionTimeout = absl::Milliseconds(250);

class Coordinator {
 public:
  struct Services {
    const Clock* clock = nullptr;
    DeadlineQueue* deadlines = nullptr;
    // May be called from within any method.
    std::function<void(const NodeInfo& to, PeerMessage message)> say;
    // The last collective that is known to be complete on all nodes.
    std::function<uint64_t()> completed;
  };

  // What `services` points to must outlive this. Passes the roster on to the other nodes.
  Coordinator(Roster roster, Services services);
  ~Coordinator();
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  const Roster& roster() const { return roster_; }
  bool live() const { return live_; }
  // Nobody needs it any more.
  bool over() const { return over_; }

  // From node number `node` of the roster.
  void Heard(size_t node, const Entered& entered);
  void Heard(size_t node, const Connected& connected);
  void Heard(size_t node, const Report& report);
  void Heard(size_t node, const Gone& gone);
  void Heard(size_t node, const Answer& answer);
  void Lost(size_t node, const std::string& why);

  // The agree at that place has its result: tells all that it stands.
  void Settle(uint64_t sequence, bool value);

 private:
  struct Node {
    std::optional<std::string> address;
    bool connected = false;
    bool gone = false;
    bool lost = false;
  };
  struct Asking {
    Ending ending;
    Place place;
    std::vector<std::optional<Answer>> answers;
    std::optional<DeadlineQueue::Handle> deadline;
  };

  // Ends the epoch with what a communicator said, unless a better reason comes soon.
  void Suspect(const Ending& ending);
  void SayToAll(const PeerMessage& message);
  void Ask(const Report& report);
  void CheckAnswers();
  void Conclude();
  std::string NotArrived(const Asking& asking, std::vector<Rank>* missing) const;
  void End(Ending ending);

  const Roster roster_;
  const Services services_;
  std::vector<Node> nodes_;
  bool live_ = false;
  bool over_ = false;
  std::optional<Asking> asking_;
  std::optional<DeadlineQueue::Handle> suspicion_;
};

// The ranks of a node, in their order.
std::vector<Rank> RanksOf(const RosterNode& node);

// Why the epoch of `roster` ends with the loss of its node number `node`. `how`: "was lost", or
// "can't be reached" from where this is said.
Failure NodeLost(const Roster& roster, size_t node, const char* how, const std::string& why);

}  // namespace tutti
