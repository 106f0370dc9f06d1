// What goes over a link, as plain values: who speaks, then messages, then why it ends. On the wire:
// tutti.v1.LinkFrame (convert.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "daemon/cluster/messages.h"

namespace tutti {

// A daemon refuses others that speak another one: messages of a group must mean the same to all of
// its nodes. (Of clients: base/version.h.)
inline constexpr uint32_t kPeerProtocolVersion = 1;

// First, by who dials.
struct Hello {
  uint32_t protocol_version = kPeerProtocolVersion;
  NodeInfo node;
  // Who is to answer. Empty: whoever is there; it is asked for the seed.
  NodeId expected;
  // Counts the dials of this node.
  uint64_t attempt = 0;
  // The last dial of the answerer that was a link here; it is none any more. 0: none.
  uint64_t answered_attempt = 0;

  friend bool operator==(const Hello&, const Hello&) = default;
};

// First, by who answers: the link is there.
struct Welcome {
  NodeInfo node;
  // Its own dials, up to this one, of the other are over.
  uint64_t attempt = 0;

  friend bool operator==(const Welcome&, const Welcome&) = default;
};

// Instead of Welcome, to who expected nobody in particular.
struct Introduction {
  NodeInfo node;
  std::optional<NodeInfo> seed;  // while there is a link to it

  friend bool operator==(const Introduction&, const Introduction&) = default;
};

// Last, by either. The numbers are those of tutti/v1/peer.proto.
enum class LinkEndReason : uint8_t {
  kUnspecified = 0,
  kAnotherNode = 1,
  kCrossed = 2,
  kStale = 3,
  kWrongVersion = 4,
  kShutdown = 5,
  kProtocol = 6,
  kOther = 7,
};

struct LinkEnd {
  LinkEndReason reason = LinkEndReason::kOther;
  std::string text;

  friend bool operator==(const LinkEnd&, const LinkEnd&) = default;
};

using LinkFrame = std::variant<Hello, Welcome, Introduction, LinkEnd, PeerMessage>;

}  // namespace tutti
