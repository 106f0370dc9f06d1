// The whole core in one thread: fake clock, tasks stepped by hand, a fake backend, real memfds.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backends/testing/fake_backend.h"
#include "base/testing/fake_clock.h"
#include "base/testing/manual_task_runner.h"
#include "daemon/core/core.h"
#include "shm/mapping.h"

namespace tutti {

// Says of processes what a test has put there.
class FakeProcesses final : public ProcessProbe {
 public:
  ProcessState StateOf(uint32_t pid) const override {
    const auto found = states.find(pid);
    return found == states.end() ? ProcessState::kRunning : found->second;
  }
  std::map<uint32_t, ProcessState> states;
};

// Small limits, so that every bound can be reached.
Limits TestLimits();

// A core that clients can be attached to.
struct CoreHost {
  virtual ~CoreHost() = default;
  // Runs everything that can run without time passing.
  virtual void Settle() = 0;
  // Same, but leaves alone what workers have been given.
  virtual void SettleLoop() = 0;

  std::unique_ptr<Core> core;
};

// The core and its world.
struct TestCore final : CoreHost {
  explicit TestCore(Limits limits = TestLimits());
  ~TestCore() override;

  void Settle() override;
  void SettleLoop() override;
  void Advance(absl::Duration by);
  // The snapshot of the newest epoch under that name.
  std::shared_ptr<const GroupSnapshot> Group(const std::string& name);

  FakeClock clock;
  ManualTaskRunner loop{&clock};
  ManualTaskRunner workers{&clock};
  ManualTaskRunner mapper{&clock};
  FakeProcesses processes;
  FakeScript script;
  FakeBackend backend{&script};
};

// A client process: a session with one arena and a lane.
class TestClient final : public Lane {
 public:
  // 16 floats per tensor, 64 tensors in the arena.
  static constexpr size_t kCount = 16;
  static constexpr size_t kTensorBytes = kCount * sizeof(float);

  explicit TestClient(CoreHost* world, uint32_t pid = 0, std::string name_space = "");
  // Its lane goes; its session stays. `world` must outlive it.
  ~TestClient() override;

  // --- Lane ---
  std::string_view name() const override { return "test"; }
  void Deliver(const Completion& completion) override;
  void Close(const Failure& reason) override { lane_closed = reason; }

  // Joins and lets the core settle; the membership is known once the group has formed.
  void Join(const std::string& group, Rank rank, uint32_t world_size,
            absl::Duration timeout = absl::ZeroDuration());
  void Join(const JoinRequest& request);
  MembershipId MemberOf(const std::string& group) const;
  // How the join ended; nothing while it waits.
  std::optional<Failure> JoinFailure(const std::string& group) const;

  // An in-place allreduce of tensor `tensor`; change what you like and Submit it.
  WorkRequest Allreduce(const std::string& group, size_t tensor = 0) const;
  WorkRequest Barrier(const std::string& group) const;
  WorkRequest Send(const std::string& group, Rank to, size_t tensor = 0) const;
  WorkRequest Recv(const std::string& group, Rank from, size_t tensor = 0) const;

  // Gives it the next number and submits; returns the number.
  WorkNumber Submit(WorkRequest request);

  // Has the work ended, and how?
  bool Done(WorkNumber number) const { return completions.contains(number); }
  bool Ok(WorkNumber number) const;
  // REQUIRES: it failed.
  const Failure& FailureOf(WorkNumber number) const;

  float* Tensor(size_t tensor) const;
  void Fill(size_t tensor, float value) const;
  bool AllEqual(size_t tensor, float value) const;
  Span SpanOf(size_t tensor) const;

  void Die();

  CoreHost* const world;
  SessionId session = 0;
  ArenaId arena = 0;
  Mapping memory;
  std::map<WorkNumber, Completion> completions;
  std::vector<WorkNumber> order;  // in which works ended
  std::optional<Failure> lane_closed;
  std::optional<Failure> protocol_failure;
  WorkNumber last_number = 0;

 private:
  std::map<std::string, std::optional<Result<Joined>>> joins_;
};

// `world_size` clients, one per rank, that have formed group `name`.
std::vector<std::unique_ptr<TestClient>> FormGroup(CoreHost* world, uint32_t world_size,
                                                   const std::string& name = "dp");

}  // namespace tutti
