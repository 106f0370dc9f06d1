// Which stream is the link to which node: at most one, whoever dialled. Keeps the promises of
// daemon/cluster/peers.h; no sockets, no threads.
//
//   none ──Say──► dialling ──Welcome──► up ──broke, ended──► none, and Lost
//     └──────Hello──────┴──► answering ──► up
//
// Who dials holds no link to that node. So a Hello from a node to which there seems to be a link
// tells that this one is gone: Lost first, then Welcome; and the dialler uses a link only after
// Welcome. Thus nothing is heard over a new link before both sides have ended the one before.
//
// Two dials that cross: that of the node with the smaller id counts. The other is refused, or given
// up where the first is heard of; what waited for it goes over the first.
//
// Frames of dials that are over may still arrive. Dials are numbered for that:
//   * Welcome tells up to which the answerer's own are over, and a Hello that is older than one
//     which has been answered is over, too: both are refused;
//   * an answerer may have lost a link before its dialler was told of it. Hello tells up to which
//     its dials were links: a dial that is at or below was one, and is lost on this side as well.
//
// Thread: everything on the control loop.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/task_runner.h"
#include "daemon/cluster/peers.h"
#include "daemon/peer/streams.h"

namespace tutti {

class Links final : public LinkStreamsListener {
 public:
  struct Services {
    const Clock* clock = nullptr;
    SequencedTaskRunner* loop = nullptr;
    LinkStreams* streams = nullptr;
    // There is a link to this node, or there is none any more (after the listener was told); the
    // latter also if none could be had.
    std::function<void(const NodeInfo& node)> up;
    std::function<void(const NodeInfo& node, const LinkEnd& why)> down;
  };
  struct Options {
    // After that a dial has failed.
    absl::Duration dial_timeout = absl::Seconds(5);
    // Of messages that wait for one dial.
    size_t waiting_bytes_max = 64 << 20;
  };

  // What `services` points to must outlive this, and tasks that were posted must not run after it.
  Links(Services services, Options options, NodeInfo self);

  const NodeInfo& self() const { return self_; }
  // Found out late, if it is that of the connection to another node.
  void SetAddress(std::string address) { self_.address = std::move(address); }

  // REQUIRES: called once, before anything else.
  void Start(PeerListener* listener) { listener_ = listener; }

  // As PeerNetwork::Say.
  void Say(const NodeInfo& to, PeerMessage message);
  // Begins a link without saying anything; `up` or `down` tells what became of it. Not to itself.
  void Connect(const NodeInfo& to);
  bool IsUp(const NodeId& node) const;

  // Of streams with a Hello that expects this node, and of those that this has dialled.
  void Received(StreamId stream, LinkFrame frame) override;
  void Broke(StreamId stream, const std::string& why) override;

  // Ends all links in good order. Nobody is told of anything any more.
  void Shutdown();

 private:
  enum class State : uint8_t { kNone, kDialling, kAnswering, kUp };
  struct Peer {
    NodeInfo node;
    State state = State::kNone;
    // The link's or the dial's; 0: the dial was refused because it crossed, and is tried again.
    StreamId stream = 0;
    // Which dial, over all its attempts.
    uint64_t dial = 0;
    uint64_t attempt = 0;
    // Of that node's attempts: the last that was a link here; and up to which all are over.
    uint64_t answered = 0;
    uint64_t over = 0;
    // Until the link is up.
    std::vector<PeerMessage> waiting;
    size_t waiting_bytes = 0;
  };

  Peer* Find(const NodeId& node);
  Peer* FindByStream(StreamId stream);
  Peer& FindOrAdd(const NodeInfo& node);
  void Wait(Peer* peer, PeerMessage message);
  std::string TooMuchWaits() const;

  void StartDial(Peer* peer);
  void Attempt(Peer* peer);
  void FailDialAt(MonotonicTime when, const Peer& peer, std::string why);
  void HandleDialled(Peer* peer, const LinkFrame& frame);
  void HandleCrossed(Peer* peer);

  void HandleHello(StreamId stream, const Hello& hello);
  // Why the Hello is refused.
  std::optional<LinkEnd> Refuse(const Hello& hello) const;
  void Answer(Peer* peer, StreamId stream, const Hello& hello);
  void HandleMessage(Peer* peer, LinkFrame frame);

  void GoUp(Peer* peer);
  void DropStream(Peer* peer, std::optional<LinkEnd> last);
  void BreakProtocol(Peer* peer, const std::string& what);
  void Lose(Peer* peer, const LinkEnd& why);

  const Services services_;
  const Options options_;
  NodeInfo self_;
  PeerListener* listener_ = nullptr;
  bool stopped_ = false;
  uint64_t dials_ = 0;
  uint64_t attempts_ = 0;
  std::map<NodeId, Peer> peers_;
  std::map<StreamId, NodeId> by_stream_;
};

}  // namespace tutti
