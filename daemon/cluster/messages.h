// What daemons say to each other, as plain values: how groups over several nodes are formed, and
// how they end (docs/adr/0014). On the wire they are tutti.v1.PeerMessage (daemon/peer).
//
//   who joins      Offer Withdraw ─► seed ─► Refused Over Roster
//   forming        coordinator ─► Roster Meet Live,  others ─► Entered Connected
//   ending         others ─► Report Gone,  coordinator ─► Ended Inquiry,  others ─► Answer
//   names in use   coordinator ─► Registered Unregistered ─► seed ─► Challenge
//   transfers      the source's node ─► SendReady,  the destination's ─► SendTaken
//
// Each but the first three names its epoch, by 16 random bytes that never repeat. Who is not in
// that epoch (any more) says so, or takes no notice: that is the fence.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/failure.h"
#include "base/types.h"
#include "daemon/cluster/nouns.h"
#include "daemon/cluster/transfers.h"

namespace tutti {

// --- Joins: a node and the seed ---

// A rank has joined at this node. May be said again, to a seed that has been restarted.
struct Offer {
  uint64_t join = 0;  // the node's number for it
  GroupKey key;
  Rank rank = 0;
  GroupTerms terms;
  absl::Duration time_left;  // until its deadline
  std::string who;           // describes its session, for people
  uint64_t last_epoch = 0;   // the highest number under this name that the node has seen
  // The newest epoch under this name that the node knows to be over: the seed may not know yet.
  // Empty: none.
  EpochId over;
  friend bool operator==(const Offer&, const Offer&) = default;
};

// It waits no more.
struct Withdraw {
  uint64_t join = 0;
  GroupKey key;
  friend bool operator==(const Withdraw&, const Withdraw&) = default;
};

// By the seed: the join has failed.
struct Refused {
  uint64_t join = 0;
  Failure failure;
  friend bool operator==(const Refused&, const Refused&) = default;
};

// By the seed: this epoch, which had the join, has ended before it was live. For who has never
// heard of it: the join may be offered again.
struct Over {
  uint64_t join = 0;
  EpochId epoch_id;
  friend bool operator==(const Over&, const Over&) = default;
};

// --- Forming: the coordinator and the others ---

// All seats are taken. By the seed to the coordinator, which is the first node; by it to the
// others.
struct Roster {
  EpochId epoch_id;
  uint64_t epoch = 0;  // for people
  GroupKey key;
  GroupTerms terms;
  std::vector<RosterNode> nodes;  // in the order of their lowest ranks
  friend bool operator==(const Roster&, const Roster&) = default;
};

// The joins of this node wait, and are the epoch's now. `address` is for the backends of the other
// nodes.
struct Entered {
  EpochId epoch_id;
  std::string address;
  friend bool operator==(const Entered&, const Entered&) = default;
};

// By the coordinator: all have entered; their addresses, in the order of nodes.
struct Meet {
  EpochId epoch_id;
  std::vector<std::string> addresses;
  friend bool operator==(const Meet&, const Meet&) = default;
};

// This node's communicator is connected to all others.
struct Connected {
  EpochId epoch_id;
  friend bool operator==(const Connected&, const Connected&) = default;
};

// By the coordinator: all are connected; ranks may be told.
struct Live {
  EpochId epoch_id;
  friend bool operator==(const Live&, const Live&) = default;
};

// --- Ending ---

// To the coordinator: something that ends the epoch has happened here. If it never was live: the
// node has not entered, or could not connect.
//
// Where a deadline has passed, `waiting_at` says in which operation: the coordinator then asks who
// has not arrived there, and names them.
struct Report {
  EpochId epoch_id;
  Ending ending;
  std::optional<Place> waiting_at;
  friend bool operator==(const Report&, const Report&) = default;
};

// By the coordinator, which decides: the first that has `closed` unset is the last.
struct Ended {
  EpochId epoch_id;
  Ending ending;
  friend bool operator==(const Ended&, const Ended&) = default;
};

// To the coordinator: no rank of this node holds a seat any more, and what they had submitted has
// ended. When all have said so, it says Ended.
struct Gone {
  EpochId epoch_id;
  friend bool operator==(const Gone&, const Gone&) = default;
};

// By the coordinator, when a deadline has passed: who has not arrived there?
struct Inquiry {
  EpochId epoch_id;
  Place place;
  friend bool operator==(const Inquiry&, const Inquiry&) = default;
};

// `doing` says for people what each of the missing ranks is doing.
struct Answer {
  EpochId epoch_id;
  Place place;
  std::vector<Rank> missing;
  std::vector<std::string> doing;
  friend bool operator==(const Answer&, const Answer&) = default;
};

// By the coordinator: the result of this agree stands, whatever happens now.
struct Settled {
  EpochId epoch_id;
  uint64_t sequence = 0;
  bool value = false;
  friend bool operator==(const Settled&, const Settled&) = default;
};

// --- Names in use: a coordinator and the seed ---

// The epoch exists. Said when it is entered and when it is live, to a seed that has been restarted,
// and when challenged.
struct Registered {
  EpochId epoch_id;
  uint64_t epoch = 0;
  GroupKey key;
  bool live = false;
  friend bool operator==(const Registered&, const Registered&) = default;
};

// It does not, or not any more.
struct Unregistered {
  EpochId epoch_id;
  friend bool operator==(const Unregistered&, const Unregistered&) = default;
};

// By the seed: does it still exist? Somebody wants the name.
struct Challenge {
  EpochId epoch_id;
  friend bool operator==(const Challenge&, const Challenge&) = default;
};

using PeerMessage = std::variant<Offer, Withdraw, Refused, Over, Roster, Entered, Meet, Connected,
                                 Live, Report, Ended, Gone, Inquiry, Answer, Settled, Registered,
                                 Unregistered, Challenge, SendReady, SendTaken>;

}  // namespace tutti
