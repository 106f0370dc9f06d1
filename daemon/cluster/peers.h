// The network between daemons, as the logic sees it: links that come, carry messages, and go.
//
// Implemented over gRPC by daemon/peer, and by tests and the simulation over virtual time.
//
// A link to a node is one at a time, whoever began it. Its messages arrive in order, none twice,
// until it is lost; each side learns of the loss, at a time of its own. Nothing is heard from a
// node over a new link before both sides have been told Lost of the one before
// (tests/models/formation.pml says why). A node that is restarted is another node.
//
// Thread: everything on the control loop.
#pragma once

#include <string>

#include "absl/time/time.h"
#include "daemon/cluster/messages.h"

namespace tutti {

// Implemented by the logic.
class PeerListener {
 public:
  virtual ~PeerListener() = default;

  // `seed` introduces nodes to each other, and there is a link to it: at the start, and again after
  // it was lost, or when another one has become it. It may be this node itself: then it introduces
  // nobody for `opens_after`, while it is told what a seed before it knew.
  virtual void SeedIs(const NodeInfo& seed, absl::Duration opens_after) = 0;
  // Until SeedIs, none is known. If this node was it, it is no more.
  virtual void NoSeed() = 0;

  virtual void Heard(const NodeInfo& from, PeerMessage message) = 0;

  // The link is gone: what has been said over it may not have been heard, and nothing will be heard
  // over it any more. Also if no link could be had for a message. `why` is for people.
  virtual void Lost(const NodeInfo& node, const std::string& why) = 0;
};

// Implemented by the network.
class PeerNetwork {
 public:
  virtual ~PeerNetwork() = default;

  virtual const NodeInfo& self() const = 0;

  // Sends; begins a link to `to` if there is none. Never calls the listener from within. What a
  // node says to itself it hears as well, in order.
  virtual void Say(const NodeInfo& to, PeerMessage message) = 0;
};

}  // namespace tutti
