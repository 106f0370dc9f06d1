// Several daemons without their sockets: their cores on a virtual network and a fake mesh. One
// thread but for what blocks in the mesh.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backends/testing/fake_backend.h"
#include "base/mutex.h"
#include "base/worker_pool.h"
#include "daemon/cluster/testing/virtual_network.h"
#include "daemon/core/testing/core_fixture.h"
#include "daemon/core/testing/fake_mesh.h"

namespace tutti {

// The loop of all cores: threads may post to it, the test's runs it.
class InboxRunner final : public SequencedTaskRunner {
 public:
  explicit InboxRunner(ManualTaskRunner* loop) : loop_(loop) {}

  void Post(std::function<void()> task) override;
  void PostAt(MonotonicTime when, std::function<void()> task) override {
    loop_->PostAt(when, std::move(task));
  }
  bool IsCurrent() const override { return true; }

  // Runs what there is, and what it posts.
  void RunUntilIdle();

 private:
  ManualTaskRunner* const loop_;
  Mutex mutex_;
  std::deque<std::function<void()>> inbox_ ABSL_GUARDED_BY(mutex_);
};

struct TestNodes;

struct TestNodeCore final : CoreHost {
  TestNodeCore(TestNodes* nodes, size_t place, Limits limits);
  ~TestNodeCore() override;
  void Settle() override;
  void SettleLoop() override { Settle(); }
  // Runs what its threads have been given, and what they post.
  void Drain();
  void DrainOne(WorkerPool* pool);

  TestNodes* const all;
  const size_t place;
  FakeProcesses processes;
  FakeScript script;
  FakeBackend local{&script};
  FakeMeshBackend mesh;
  WorkerPool workers{"worker", 1};
  WorkerPool mapper{"mapper", 1};
  WorkerPool reaper{"reaper", 1};
};

struct TestNodes {
  explicit TestNodes(size_t count, Limits limits = TestLimits());
  ~TestNodes();

  TestNodeCore* operator[](size_t place) { return nodes[place].get(); }
  // Lets time pass, a millisecond at a time, until `done`; false if it never is. What happens in
  // the mesh takes real time.
  bool Until(const std::function<bool()>& done);
  void Advance(absl::Duration by);
  void Kill(size_t place);
  // Rank i on node i % nodes.
  std::vector<std::unique_ptr<TestClient>> FormGroup(uint32_t world_size,
                                                     const std::string& name = "dp");

  FakeClock clock;
  ManualTaskRunner manual{&clock};
  InboxRunner loop{&manual};
  VirtualNetwork network;
  FakeMesh mesh;
  const Limits limits;
  std::vector<std::unique_ptr<TestNodeCore>> nodes;
};

}  // namespace tutti
