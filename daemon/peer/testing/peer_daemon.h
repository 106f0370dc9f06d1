// A daemon as its peers see it: a loop in a thread, the network over real sockets, and what its
// listener is told.
//
// Made, asked and destroyed by the test's thread.
#pragma once

#include <catch2/catch.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/thread.h"
#include "daemon/peer/peer_network_over_grpc.h"
#include "daemon/transport/event_loop.h"

namespace tutti {

class PeerDaemon final : public PeerListener {
 public:
  // Whether it can say how it is: its version is its name.
  enum class Age { kOfToday, kTooOldToSay };

  explicit PeerDaemon(char id, PeerNetworkOverGrpc::Options options, Age age = Age::kOfToday) {
    loop_ = *EventLoop::Create(&clock_, "loop");
    options.clock = &clock_;
    options.loop = loop_.get();
    options.id = std::string(16, id);
    options.name = std::string(1, id);
    auto created = PeerNetworkOverGrpc::Create(options);
    INFO(created.status().ToString());
    REQUIRE(created.ok());
    network_ = *std::move(created);
    if (age == Age::kOfToday) {
      network_->view().SetOwnStatus(
          [name = options.name](v1::NodeStatus* status) { status->set_version(name); });
    }
    thread_.emplace("loop", [this] {
      loop_->Run();
      loop_->RunPostedTasks();
    });
    REQUIRE(network_->Start(this).ok());
  }
  ~PeerDaemon() override { Stop(); }

  void Stop(absl::Duration patience = absl::Seconds(1)) {
    if (network_ == nullptr) return;
    network_->Shutdown(patience);
    loop_->Stop();
    thread_.reset();
    network_.reset();
  }

  NodeInfo self() {
    NodeInfo self;
    RunOnLoop([&] { self = network_->self(); });
    return self;
  }
  ClusterView& view() { return network_->view(); }
  uint16_t port() const { return network_->port(); }
  std::string address() const { return "127.0.0.1:" + std::to_string(port()); }

  void Say(const NodeInfo& to, uint64_t number) { Say(to, Withdraw{.join = number}); }
  void Say(const NodeInfo& to, PeerMessage message) {
    loop_->Post([this, to, message = std::move(message)] { network_->Say(to, message); });
  }
  // In one go: nothing is heard in between.
  void SayOften(const NodeInfo& to, const PeerMessage& message, int times) {
    RunOnLoop([&] {
      for (int i = 0; i < times; ++i) network_->Say(to, message);
    });
  }

  // Blocks until `wanted` has come up, as "seed a", "heard a 1", "lost a"; forgets it and what was
  // before.
  void WaitFor(const std::string& wanted) {
    MutexLock lock(&mutex_);
    while (true) {
      for (size_t i = 0; i < log_.size(); ++i) {
        if (log_[i] != wanted) continue;
        log_.erase(log_.begin(), log_.begin() + static_cast<std::ptrdiff_t>(i + 1));
        return;
      }
      changed_.Wait(&mutex_);
    }
  }
  std::vector<std::string> Log() {
    MutexLock lock(&mutex_);
    return log_;
  }
  std::string why_lost() {
    MutexLock lock(&mutex_);
    return why_lost_;
  }
  // The last message that it has heard.
  std::optional<PeerMessage> heard() {
    MutexLock lock(&mutex_);
    return heard_;
  }

  void SeedIs(const NodeInfo& seed, absl::Duration) override { Add("seed " + seed.name); }
  void NoSeed() override {}
  void Heard(const NodeInfo& from, PeerMessage message) override {
    const auto* const withdraw = std::get_if<Withdraw>(&message);
    const uint64_t number = withdraw == nullptr ? 0 : withdraw->join;
    {
      MutexLock lock(&mutex_);
      heard_ = std::move(message);
    }
    Add("heard " + from.name + " " + std::to_string(number));
  }
  void Lost(const NodeInfo& node, const std::string& why) override {
    {
      MutexLock lock(&mutex_);
      why_lost_ = why;
    }
    Add("lost " + node.name);
  }

  void RunOnLoop(const std::function<void()>& task) {
    bool done = false;
    loop_->Post([&] {
      task();
      MutexLock lock(&mutex_);
      done = true;
      changed_.SignalAll();
    });
    MutexLock lock(&mutex_);
    while (!done) changed_.Wait(&mutex_);
  }
  // On the loop.
  void After(absl::Duration time, std::function<void()> task) {
    loop_->PostAt(clock_.Now() + time, std::move(task));
  }
  const Clock& clock() const { return clock_; }

 private:
  void Add(std::string entry) {
    TUTTI_CHECK(loop_->IsCurrent());
    MutexLock lock(&mutex_);
    log_.push_back(std::move(entry));
    changed_.SignalAll();
  }

  const RealClock clock_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<PeerNetworkOverGrpc> network_;
  std::optional<Thread> thread_;

  Mutex mutex_;
  CondVar changed_;
  std::vector<std::string> log_ ABSL_GUARDED_BY(mutex_);
  std::string why_lost_ ABSL_GUARDED_BY(mutex_);
  std::optional<PeerMessage> heard_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tutti
