// Streams between daemons in one thread: a test says which frame arrives next, which stream breaks,
// and when each side learns of it. Everything is heard in its order or not at all, as over TCP.
//
// Not thread-safe: the test's thread is the control loop.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "daemon/peer/streams.h"

namespace tutti {

class FakeStreams {
 public:
  // Which end of a stream: of who dialled, and of who was dialled.
  enum Side { kDialler = 0, kAnswerer = 1 };
  // Streams are numbered 1, 2, 3...; each of their ends has its own name.
  static StreamId IdAt(StreamId stream, Side side) { return 2 * stream + side; }

  // One daemon's streams. It is heard at `address` until it is destroyed, and then its streams
  // break.
  class Port;

  struct Stream {
    Port* ports[2] = {nullptr, nullptr};
    // What is on its way to either side; a text: that it broke, or was ended.
    std::deque<std::variant<LinkFrame, std::string>> arriving[2];
    // This side has ended it, or has been told that it broke: it hears nothing more.
    bool over[2] = {false, false};
    bool broken = false;
  };

  // Streams on which something is on its way to a side that still hears.
  std::vector<std::pair<StreamId, Side>> Arriving() const {
    std::vector<std::pair<StreamId, Side>> found;
    for (const auto& [id, stream] : streams_) {
      for (const Side side : {kDialler, kAnswerer}) {
        if (!stream.over[side] && !stream.arriving[side].empty()) found.emplace_back(id, side);
      }
    }
    return found;
  }
  // The next thing arrives.
  void Deliver(StreamId id, Side side);

  // What is on its way is lost; each side learns of it when that is delivered.
  void Break(StreamId id) {
    Stream& stream = streams_.at(id);
    if (stream.broken) return;
    stream.broken = true;
    for (const Side side : {kDialler, kAnswerer}) {
      stream.arriving[side].clear();
      stream.arriving[side].emplace_back("the connection broke");
    }
  }

  std::vector<StreamId> Open() const {
    std::vector<StreamId> open;
    for (const auto& [id, stream] : streams_) {
      if (!stream.broken && !(stream.over[0] && stream.over[1])) open.push_back(id);
    }
    return open;
  }
  const Stream& stream(StreamId id) const { return streams_.at(id); }
  // Dials from now on fail, but those in progress.
  bool unreachable = false;
  // Told of each dial.
  std::function<void(StreamId stream, const Hello& hello)> on_dial;

 private:
  std::map<StreamId, Stream> streams_;
  std::map<std::string, Port*> ports_;
  StreamId last_ = 0;
};

class FakeStreams::Port final : public LinkStreams {
 public:
  Port(FakeStreams* network, std::string address)
      : network_(network), address_(std::move(address)) {
    network_->ports_[address_] = this;
  }
  ~Port() override { Die(); }

  // Its daemon has died: connections break, and it hears nothing any more.
  void Die() {
    if (std::exchange(dead_, true)) return;
    network_->ports_.erase(address_);
    for (auto& [id, stream] : network_->streams_) {
      for (const Side side : {kDialler, kAnswerer}) {
        if (stream.ports[side] != this) continue;
        network_->Break(id);
        stream.over[side] = true;
      }
    }
  }

  void Listen(LinkStreamsListener* listener) { listener_ = listener; }

  StreamId Dial(const std::string& address, const Hello& hello) override {
    const StreamId id = ++network_->last_;
    if (network_->on_dial) network_->on_dial(id, hello);
    Stream& stream = network_->streams_[id];
    const auto there = network_->ports_.find(address);
    stream.ports[kDialler] = this;
    if (there == network_->ports_.end() || network_->unreachable) {
      stream.over[kAnswerer] = true;
      network_->Break(id);
      return IdAt(id, kDialler);
    }
    stream.ports[kAnswerer] = there->second;
    stream.arriving[kAnswerer].emplace_back(LinkFrame(hello));
    return IdAt(id, kDialler);
  }
  void Send(StreamId id, LinkFrame frame) override {
    Stream& stream = network_->streams_.at(id / 2);
    const Side side = SideOf(id);
    if (stream.over[side] || stream.broken) return;
    stream.arriving[1 - side].emplace_back(std::move(frame));
  }
  void End(StreamId id, std::optional<LinkEnd> last) override {
    Stream& stream = network_->streams_.at(id / 2);
    const Side side = SideOf(id);
    if (stream.over[side]) return;
    if (last.has_value()) Send(id, *last);
    stream.over[side] = true;
    if (!stream.broken) stream.arriving[1 - side].emplace_back("it has ended the link");
  }
  std::string LocalHost(StreamId) override { return local_host; }

  std::string local_host;

 private:
  friend class FakeStreams;
  static Side SideOf(StreamId id) { return id % 2 == 0 ? kDialler : kAnswerer; }

  FakeStreams* const network_;
  const std::string address_;
  bool dead_ = false;
  LinkStreamsListener* listener_ = nullptr;
};

inline void FakeStreams::Deliver(StreamId id, Side side) {
  Stream& stream = streams_.at(id);
  auto next = std::move(stream.arriving[side].front());
  stream.arriving[side].pop_front();
  LinkStreamsListener* const listener = stream.ports[side]->listener_;
  if (auto* const frame = std::get_if<LinkFrame>(&next)) {
    return listener->Received(IdAt(id, side), std::move(*frame));
  }
  stream.over[side] = true;
  listener->Broke(IdAt(id, side), std::get<std::string>(next));
}

}  // namespace tutti
