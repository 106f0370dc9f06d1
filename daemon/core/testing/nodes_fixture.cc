#include "daemon/core/testing/nodes_fixture.h"

#include <sched.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace tutti {

void InboxRunner::Post(std::function<void()> task) {
  MutexLock lock(&mutex_);
  inbox_.push_back(std::move(task));
}

void InboxRunner::RunUntilIdle() {
  while (true) {
    std::function<void()> task;
    {
      MutexLock lock(&mutex_);
      if (!inbox_.empty()) {
        task = std::move(inbox_.front());
        inbox_.pop_front();
      }
    }
    if (task) {
      task();
    } else if (!loop_->RunOne()) {
      return;
    }
  }
}

TestNodeCore::TestNodeCore(TestNodes* nodes, size_t its_place, Limits limits)
    : all(nodes), place(its_place), mesh(&nodes->mesh) {
  core = std::make_unique<Core>(
      limits, Dependencies{
                  .clock = &all->clock,
                  .loop = &all->loop,
                  .workers = &workers,
                  .mapper = &mapper,
                  .processes = &processes,
                  .random =
                      [this](void* bytes, size_t size) {
                        for (size_t i = 0; i < size; ++i) {
                          static_cast<uint8_t*>(bytes)[i] = all->network.random()() & 0xff;
                        }
                      },
                  .backends = {&local, &mesh},
                  .make_runner =
                      [](const std::string& name) { return std::make_unique<WorkerPool>(name, 1); },
                  .reaper = &reaper,
                  .network = all->network.Start(place)});
  all->network.Listen(place, core->peers(), absl::ZeroDuration());
}

TestNodeCore::~TestNodeCore() {
  // What its threads and the loop still hold refers to it.
  mesh.Hold(false);
  Drain();
  core.reset();
  Drain();
  DrainOne(&reaper);
  Drain();
}

void TestNodeCore::Drain() {
  DrainOne(&workers);
  DrainOne(&mapper);
}

void TestNodeCore::DrainOne(WorkerPool* pool) {
  bool drained = false;
  pool->Post([this, &drained] { all->loop.Post([&drained] { drained = true; }); });
  while (!drained) {
    all->loop.RunUntilIdle();
    sched_yield();
  }
}

void TestNodeCore::Settle() {
  all->loop.RunUntilIdle();
  Drain();
}

namespace {

// Threads of the mesh may have to wait for a processor while virtual time goes on: only deadlines
// that a test sets itself are to pass.
Limits Patient(Limits limits) {
  limits.work_timeout = absl::Hours(1);
  limits.join_timeout = absl::Hours(1);
  return limits;
}

}  // namespace

TestNodes::TestNodes(size_t count, Limits its_limits)
    : network(&clock, &manual, {}), limits(Patient(std::move(its_limits))) {
  for (size_t place = 0; place < count; ++place) {
    network.AddPlace(std::string(1, static_cast<char>('a' + place)));
  }
  for (size_t place = 0; place < count; ++place) {
    nodes.push_back(std::make_unique<TestNodeCore>(this, place, limits));
  }
  Advance(absl::Milliseconds(500));
}

TestNodes::~TestNodes() {
  for (size_t place = 0; place < nodes.size(); ++place) {
    if (nodes[place] != nullptr) Kill(place);
  }
}

bool TestNodes::Until(const std::function<bool()>& done) {
  constexpr int kTurnsMax = 40000;
  for (int turn = 0; turn < kTurnsMax; ++turn) {
    loop.RunUntilIdle();
    if (done()) return true;
    manual.Advance(absl::Milliseconds(1));
    // Threads in the mesh need the processor.
    for (int i = 0; i < 20; ++i) sched_yield();
  }
  return false;
}

void TestNodes::Advance(absl::Duration by) {
  for (absl::Duration passed; passed < by; passed += absl::Milliseconds(1)) {
    loop.RunUntilIdle();
    manual.Advance(absl::Milliseconds(1));
  }
  loop.RunUntilIdle();
}

void TestNodes::Kill(size_t place) {
  network.Die(place);
  nodes[place].reset();
}

std::vector<std::unique_ptr<TestClient>> TestNodes::FormGroup(uint32_t world_size,
                                                              const std::string& name) {
  std::vector<std::unique_ptr<TestClient>> clients;
  for (Rank rank = 0; rank < world_size; ++rank) {
    clients.push_back(std::make_unique<TestClient>(nodes[rank % nodes.size()].get(), 100 + rank));
    clients.back()->Join(name, rank, world_size);
  }
  TUTTI_CHECK(Until([&] {
    for (const auto& client : clients) {
      if (client->MemberOf(name) == 0) return false;
    }
    return true;
  }));
  return clients;
}

}  // namespace tutti
