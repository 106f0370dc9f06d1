// Nodes without sockets: messages in memory, which meet or wait.
//
// Stricter than Gloo, so that what works here does not live on its buffers: a message is sent when
// its receiver has posted, not before. A message that is longer than what it is received in, which
// ends the process under Gloo, fails the network.
//
// Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "backends/gloo/mesh.h"
#include "base/mutex.h"

namespace tutti {

// Outlives its meshes.
class FakeNetwork {
 public:
  explicit FakeNetwork(size_t nodes) : gone_(nodes) {}

  // One for each node.
  std::unique_ptr<Mesh> MakeMesh(size_t node);

  // What no node may do, or nothing.
  std::string violation() {
    MutexLock lock(&mutex_);
    return violation_;
  }
  // Bytes that have crossed from one node to another, since the last call.
  std::map<std::pair<size_t, size_t>, size_t> TakeTraffic() {
    MutexLock lock(&mutex_);
    return std::exchange(traffic_, {});
  }

 private:
  class FakeMessage;
  class FakeMesh;
  using Key = std::tuple<size_t, size_t, uint64_t>;  // from, to, tag
  struct Line {
    std::deque<FakeMessage*> sends;
    std::deque<FakeMessage*> receives;
  };

  void Post(FakeMessage* message);
  absl::Status Wait(FakeMessage* message);
  void Withdraw(FakeMessage* message);
  void Leave(size_t node);
  absl::Status WhyFailed(const FakeMessage& message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Mutex mutex_;
  CondVar changed_;
  std::map<Key, Line> lines_ ABSL_GUARDED_BY(mutex_);
  std::vector<bool> gone_ ABSL_GUARDED_BY(mutex_);
  std::map<std::pair<size_t, size_t>, size_t> traffic_ ABSL_GUARDED_BY(mutex_);
  std::string violation_ ABSL_GUARDED_BY(mutex_);
};

class FakeNetwork::FakeMessage final : public Mesh::Message {
 public:
  FakeMessage(FakeNetwork* network, bool sends, Key key, std::byte* data, size_t size_bytes)
      : network_(*network), sends_(sends), key_(key), data_(data), size_bytes_(size_bytes) {
    network_.Post(this);
  }
  ~FakeMessage() override { network_.Withdraw(this); }
  absl::Status Wait() override { return network_.Wait(this); }

 private:
  friend class FakeNetwork;

  size_t from() const { return std::get<0>(key_); }
  size_t to() const { return std::get<1>(key_); }

  FakeNetwork& network_;
  const bool sends_;
  const Key key_;
  std::byte* const data_;
  const size_t size_bytes_;
  bool done_ = false;  // guarded by the network's mutex
};

class FakeNetwork::FakeMesh final : public Mesh {
 public:
  FakeMesh(FakeNetwork* network, size_t nodes, size_t node)
      : network_(network), nodes_(nodes), node_(node) {}
  ~FakeMesh() override { Abort(); }

  size_t nodes() const override { return nodes_; }
  size_t node() const override { return node_; }
  std::unique_ptr<Message> Send(size_t to, uint64_t tag, const std::byte* data,
                                size_t size_bytes) override {
    return std::make_unique<FakeMessage>(network_, true, Key{node_, to, tag},
                                         const_cast<std::byte*>(data), size_bytes);
  }
  std::unique_ptr<Message> Receive(size_t from, uint64_t tag, std::byte* data,
                                   size_t size_bytes) override {
    return std::make_unique<FakeMessage>(network_, false, Key{from, node_, tag}, data, size_bytes);
  }
  void Abort() override { network_->Leave(node_); }

 private:
  FakeNetwork* const network_;
  const size_t nodes_;
  const size_t node_;
};

inline std::unique_ptr<Mesh> FakeNetwork::MakeMesh(size_t node) {
  MutexLock lock(&mutex_);
  return std::make_unique<FakeMesh>(this, gone_.size(), node);
}

inline void FakeNetwork::Post(FakeMessage* message) {
  MutexLock lock(&mutex_);
  if (message->size_bytes_ == 0 || message->from() == message->to()) violation_ = "empty message";
  Line& line = lines_[message->key_];
  (message->sends_ ? line.sends : line.receives).push_back(message);
  if (line.sends.empty() || line.receives.empty()) return;
  FakeMessage* const send = line.sends.front();
  FakeMessage* const receive = line.receives.front();
  line.sends.pop_front();
  line.receives.pop_front();
  if (gone_[message->from()] || gone_[message->to()]) return;
  if (send->size_bytes_ > receive->size_bytes_) {
    violation_ = absl::StrCat("tag ", std::get<2>(message->key_), ": ", send->size_bytes_,
                              " bytes for a buffer of ", receive->size_bytes_);
    return;
  }
  std::memcpy(receive->data_, send->data_, send->size_bytes_);
  traffic_[{message->from(), message->to()}] += send->size_bytes_;
  send->done_ = receive->done_ = true;
  changed_.SignalAll();
}

inline absl::Status FakeNetwork::WhyFailed(const FakeMessage& message) {
  const size_t mine = message.sends_ ? message.from() : message.to();
  const size_t other = message.sends_ ? message.to() : message.from();
  if (gone_[mine]) return absl::AbortedError("the communicator was aborted");
  if (gone_[other]) return absl::UnavailableError(absl::StrCat("node ", other, " is lost: gone"));
  return violation_.empty() ? absl::OkStatus() : absl::InternalError(violation_);
}

inline absl::Status FakeNetwork::Wait(FakeMessage* message) {
  MutexLock lock(&mutex_);
  while (!message->done_) {
    absl::Status failed = WhyFailed(*message);
    if (!failed.ok()) return failed;
    changed_.Wait(&mutex_);
  }
  return absl::OkStatus();
}

inline void FakeNetwork::Withdraw(FakeMessage* message) {
  MutexLock lock(&mutex_);
  const auto found = lines_.find(message->key_);
  if (found == lines_.end()) return;
  std::erase(found->second.sends, message);
  std::erase(found->second.receives, message);
}

inline void FakeNetwork::Leave(size_t node) {
  MutexLock lock(&mutex_);
  gone_[node] = true;
  changed_.SignalAll();
}

}  // namespace tutti
