#include "daemon/peer/links.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/log.h"

namespace tutti {
namespace {

// Before a dial that was refused because it crossed is tried again: longer than a Hello takes to
// arrive, which makes that needless; short, for when the other dial has come to nothing.
constexpr absl::Duration kCrossedRetry = absl::Milliseconds(50);

// Nodes without a link whose numbers are remembered, each in some 200 bytes. Whoever is forgotten
// and has frames of old dials on their way can have a link that breaks at once.
constexpr size_t kPeersKept = 4096;

// What a message takes of memory, about: only copies of sends are large.
size_t BytesOf(const PeerMessage& message) {
  constexpr size_t kSmall = 256;
  const auto* const send = std::get_if<SendReady>(&message);
  return kSmall + (send != nullptr && send->data.has_value() ? send->data->size() : 0);
}

std::string Describe(const NodeInfo& node) {
  return absl::StrCat(node.name, " (", node.address.empty() ? "no address" : node.address, ")");
}

}  // namespace

Links::Links(Services services, Options options, NodeInfo self)
    : services_(std::move(services)), options_(options), self_(std::move(self)) {}

// --- Peers ---

Links::Peer* Links::Find(const NodeId& node) {
  const auto found = peers_.find(node);
  return found == peers_.end() ? nullptr : &found->second;
}

Links::Peer* Links::FindByStream(StreamId stream) {
  const auto found = by_stream_.find(stream);
  return found == by_stream_.end() ? nullptr : Find(found->second);
}

Links::Peer& Links::FindOrAdd(const NodeInfo& node) {
  if (Peer* const known = Find(node.id)) return *known;
  if (peers_.size() >= kPeersKept) {
    std::erase_if(peers_, [](const auto& one) { return one.second.state == State::kNone; });
  }
  Peer& added = peers_[node.id];
  added.node = node;
  return added;
}

bool Links::IsUp(const NodeId& node) const {
  const auto found = peers_.find(node);
  return found != peers_.end() && found->second.state == State::kUp;
}

// --- Saying ---

void Links::Say(const NodeInfo& to, PeerMessage message) {
  if (stopped_) return;
  if (to.id == self_.id) {
    return services_.loop->Post([this, message = std::move(message)]() mutable {
      if (!stopped_) listener_->Heard(self_, std::move(message));
    });
  }
  Peer& peer = FindOrAdd(to);
  if (peer.state == State::kUp) return services_.streams->Send(peer.stream, std::move(message));
  const bool dial = peer.state == State::kNone;
  if (dial) peer.node = to;
  Wait(&peer, std::move(message));
  if (dial) StartDial(&peer);
}

void Links::Connect(const NodeInfo& to) {
  TUTTI_CHECK(to.id != self_.id);
  Peer& peer = FindOrAdd(to);
  if (peer.state != State::kNone || stopped_) return;
  peer.node = to;
  StartDial(&peer);
}

void Links::Wait(Peer* peer, PeerMessage message) {
  const size_t before = peer->waiting_bytes;
  peer->waiting_bytes += BytesOf(message);
  if (peer->waiting_bytes <= options_.waiting_bytes_max) {
    return peer->waiting.push_back(std::move(message));
  }
  // Never a gap: all are lost, and no link comes of it. Said once.
  if (before <= options_.waiting_bytes_max && peer->state == State::kDialling) {
    FailDialAt(services_.clock->Now(), *peer, TooMuchWaits());
  }
}

std::string Links::TooMuchWaits() const {
  return absl::StrCat("more than ", options_.waiting_bytes_max, " bytes wait for a link");
}

// --- Dialling ---

void Links::StartDial(Peer* peer) {
  peer->state = State::kDialling;
  peer->dial = ++dials_;
  if (peer->node.address.empty()) {
    peer->attempt = ++attempts_;
    return FailDialAt(services_.clock->Now(), *peer, "its address is not known");
  }
  FailDialAt(services_.clock->Now() + options_.dial_timeout, *peer,
             absl::StrCat("no answer within ", absl::FormatDuration(options_.dial_timeout)));
  Attempt(peer);
}

void Links::Attempt(Peer* peer) {
  peer->attempt = ++attempts_;
  peer->stream = services_.streams->Dial(peer->node.address, {.node = self_,
                                                              .expected = peer->node.id,
                                                              .attempt = peer->attempt,
                                                              .answered_attempt = peer->answered});
  by_stream_[peer->stream] = peer->node.id;
}

void Links::FailDialAt(MonotonicTime when, const Peer& peer, std::string why) {
  services_.loop->PostAt(when, [this, id = peer.node.id, dial = peer.dial, why = std::move(why)] {
    Peer* const late = Find(id);
    if (late == nullptr || late->state != State::kDialling || late->dial != dial) return;
    Lose(late, {LinkEndReason::kOther, why});
  });
}

void Links::HandleDialled(Peer* peer, const LinkFrame& frame) {
  if (const auto* end = std::get_if<LinkEnd>(&frame)) {
    if (end->reason == LinkEndReason::kCrossed) return HandleCrossed(peer);
    return Lose(peer, *end);
  }
  const auto* const welcome = std::get_if<Welcome>(&frame);
  if (welcome == nullptr) return BreakProtocol(peer, "no Welcome");
  if (welcome->node.id != peer->node.id) return BreakProtocol(peer, "Welcome of another node");
  peer->over = std::max(peer->over, welcome->attempt);
  GoUp(peer);
}

// The other one dials, too. Its Hello is on its way; unless its dial fails.
void Links::HandleCrossed(Peer* peer) {
  DropStream(peer, std::nullopt);
  services_.loop->PostAt(services_.clock->Now() + kCrossedRetry,
                         [this, id = peer->node.id, dial = peer->dial] {
                           Peer* const late = Find(id);
                           if (late == nullptr || late->state != State::kDialling) return;
                           if (late->dial == dial && late->stream == 0) Attempt(late);
                         });
}

// --- Answering ---

std::optional<LinkEnd> Links::Refuse(const Hello& hello) const {
  if (hello.protocol_version != kPeerProtocolVersion) {
    return LinkEnd{LinkEndReason::kWrongVersion,
                   absl::StrCat(Describe(self_), " speaks version ", kPeerProtocolVersion,
                                " of the protocol between daemons, ", Describe(hello.node),
                                " speaks ", hello.protocol_version)};
  }
  if (hello.expected != self_.id) {
    return LinkEnd{LinkEndReason::kAnotherNode,
                   absl::StrCat("another daemon is there now: ", Describe(self_))};
  }
  if (hello.node.id == self_.id) return LinkEnd{LinkEndReason::kProtocol, "this is its own id"};
  const auto found = peers_.find(hello.node.id);
  if (found == peers_.end()) return std::nullopt;
  const Peer& peer = found->second;
  if (hello.attempt <= peer.over) {
    return LinkEnd{LinkEndReason::kStale, "a later dial has come before"};
  }
  const bool was_link = hello.answered_attempt >= peer.attempt;
  if (peer.state == State::kDialling && !was_link && self_.id < hello.node.id) {
    return LinkEnd{LinkEndReason::kCrossed, "two dials have crossed"};
  }
  return std::nullopt;
}

void Links::HandleHello(StreamId stream, const Hello& hello) {
  const std::optional<LinkEnd> refusal = Refuse(hello);
  if (refusal.has_value()) {
    LogDebug("peer.refused node={} why={}", Quoted(hello.node.name), Quoted(refusal->text));
    return services_.streams->End(stream, refusal);
  }
  Answer(&FindOrAdd(hello.node), stream, hello);
}

void Links::Answer(Peer* peer, StreamId stream, const Hello& hello) {
  // A link that is gone, or a dial that had become one there: this side loses it as well.
  const bool had_link = peer->state == State::kUp || peer->state == State::kAnswering;
  const bool was_link = peer->state == State::kDialling && hello.answered_attempt >= peer->attempt;
  const NodeInfo before = peer->node;
  if (peer->stream != 0) {
    DropStream(peer, LinkEnd{LinkEndReason::kStale, "another link has taken its place"});
  }
  peer->node = hello.node;
  peer->state = State::kAnswering;
  peer->stream = stream;
  peer->answered = hello.attempt;
  peer->over = hello.attempt;
  by_stream_[stream] = peer->node.id;
  if (had_link || was_link) {
    peer->waiting.clear();
    peer->waiting_bytes = 0;
    LogInfo("peer.lost node={} why=\"it has dialled again\"", Quoted(before.name));
    const LinkEnd why{LinkEndReason::kOther, "it has dialled again: the connection had broken"};
    // What it says to that node meanwhile waits.
    listener_->Lost(before, why.text);
    services_.down(before, why);
  }
  services_.streams->Send(stream, Welcome{.node = self_, .attempt = attempts_});
  GoUp(peer);
}

// --- A link ---

void Links::GoUp(Peer* peer) {
  if (peer->waiting_bytes > options_.waiting_bytes_max) {
    return Lose(peer, {LinkEndReason::kOther, TooMuchWaits()});
  }
  peer->state = State::kUp;
  LogInfo("peer.up node={} address={}", Quoted(peer->node.name), Quoted(peer->node.address));
  for (PeerMessage& message : std::exchange(peer->waiting, {})) {
    services_.streams->Send(peer->stream, std::move(message));
  }
  peer->waiting_bytes = 0;
  services_.up(peer->node);
}

void Links::HandleMessage(Peer* peer, LinkFrame frame) {
  if (const auto* end = std::get_if<LinkEnd>(&frame)) return Lose(peer, *end);
  auto* const message = std::get_if<PeerMessage>(&frame);
  if (message == nullptr) return BreakProtocol(peer, "no message");
  // A copy: the listener may say something that makes the node forget where it is.
  const NodeInfo from = peer->node;
  listener_->Heard(from, std::move(*message));
}

void Links::Received(StreamId stream, LinkFrame frame) {
  if (stopped_) return;
  Peer* const peer = FindByStream(stream);
  if (peer == nullptr) {
    if (const auto* hello = std::get_if<Hello>(&frame)) return HandleHello(stream, *hello);
    return services_.streams->End(stream, LinkEnd{LinkEndReason::kProtocol, "no Hello"});
  }
  if (peer->state == State::kDialling) return HandleDialled(peer, frame);
  HandleMessage(peer, std::move(frame));
}

void Links::Broke(StreamId stream, const std::string& why) {
  Peer* const peer = FindByStream(stream);
  if (peer == nullptr || stopped_) return;
  by_stream_.erase(stream);
  peer->stream = 0;
  Lose(peer, {LinkEndReason::kOther, why});
}

// --- The end ---

void Links::DropStream(Peer* peer, std::optional<LinkEnd> last) {
  by_stream_.erase(peer->stream);
  services_.streams->End(std::exchange(peer->stream, 0), std::move(last));
}

void Links::BreakProtocol(Peer* peer, const std::string& what) {
  const LinkEnd end{LinkEndReason::kProtocol,
                    absl::StrCat("the protocol between daemons was broken: ", what)};
  DropStream(peer, end);
  Lose(peer, end);
}

void Links::Lose(Peer* peer, const LinkEnd& why) {
  // A link that nobody has used is one all the same; a dial without messages is nobody's loss.
  const bool tell = peer->state != State::kDialling || peer->waiting_bytes > 0;
  if (peer->stream != 0) DropStream(peer, std::nullopt);
  peer->state = State::kNone;
  peer->waiting.clear();
  peer->waiting_bytes = 0;
  // The listener may have this peer forgotten.
  const NodeInfo node = peer->node;
  LogInfo("peer.lost node={} address={} why={}", Quoted(node.name), Quoted(node.address),
          Quoted(why.text));
  if (tell) listener_->Lost(node, why.text);
  services_.down(node, why);
}

void Links::Shutdown() {
  stopped_ = true;
  for (auto& [id, peer] : peers_) {
    peer.state = State::kNone;
    if (peer.stream == 0) continue;
    DropStream(&peer, LinkEnd{LinkEndReason::kShutdown, "its daemon has ended"});
  }
}

}  // namespace tutti
