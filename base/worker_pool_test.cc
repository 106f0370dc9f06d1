#include "base/worker_pool.h"

#include <sched.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <fstream>
#include <latch>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace tutti {
namespace {

TEST_CASE("Destroying the pool runs what has been posted") {
  std::atomic<int> done{0};
  {
    WorkerPool pool("test", 2);
    CHECK(pool.threads() == 2);
    for (int i = 0; i < 1000; ++i) pool.Post([&] { ++done; });
  }
  CHECK(done == 1000);
}

TEST_CASE("Tasks may post tasks, also while the pool is being destroyed") {
  std::atomic<int> done{0};
  std::latch posted(1);
  {
    WorkerPool pool("test", 2);
    pool.Post([&] {
      posted.wait();
      pool.Post([&] {
        ++done;
        pool.Post([&] { ++done; });
      });
    });
    posted.count_down();
  }
  CHECK(done == 2);
}

TEST_CASE("As many tasks run at once as there are threads") {
  // Nobody passes until three are there: with fewer threads, this test would hang.
  std::latch met(4);
  WorkerPool pool("test", 3);
  for (int i = 0; i < 3; ++i) pool.Post([&] { met.arrive_and_wait(); });
  met.arrive_and_wait();
}

TEST_CASE("What a task owns is gone when the pool is") {
  const auto owned = std::make_shared<int>(1);
  {
    WorkerPool pool("test", 1);
    pool.Post([owned] {});
  }
  CHECK(owned.use_count() == 1);
}

TEST_CASE("Post does not run the task itself") {
  const auto caller = std::this_thread::get_id();
  std::thread::id runner;
  {
    WorkerPool pool("test", 1);
    pool.Post([&] { runner = std::this_thread::get_id(); });
  }
  CHECK(runner != caller);
  CHECK(runner != std::thread::id());
}

// On which the calling thread may run; none if the kernel does not tell. Catch cannot assert that
// here: its assertions are the main thread's.
std::set<int> Processors() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return {};
  std::set<int> found;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) found.insert(cpu);
  }
  return found;
}

TEST_CASE("Threads divide the processors among them, if there are enough") {
  const std::set<int> all = Processors();
  REQUIRE(!all.empty());
  for (const size_t threads : {size_t{1}, all.size(), all.size() + 1}) {
    std::vector<std::set<int>> shares;
    std::mutex mutex;
    {
      // Nobody passes until all threads are there.
      std::latch met(static_cast<std::ptrdiff_t>(threads));
      WorkerPool pool("test", threads);
      for (size_t i = 0; i < threads; ++i) {
        pool.Post([&] {
          const std::set<int> share = Processors();
          met.arrive_and_wait();
          const std::lock_guard lock(mutex);
          shares.push_back(share);
        });
      }
    }
    std::map<int, size_t> users;
    for (const std::set<int>& share : shares) {
      for (const int processor : share) ++users[processor];
    }
    CHECK(users.size() == all.size());
    for (const auto& [processor, count] : users) {
      CHECK(count == (threads > all.size() ? threads : 1));
    }
  }
}

TEST_CASE("Threads carry their name, cut to what the kernel holds") {
  std::string name;
  {
    WorkerPool pool("a-name-that-is-too-long", 1);
    pool.Post([&] { std::getline(std::ifstream("/proc/thread-self/comm"), name); });
  }
  CHECK(name == "a-name-that-is-");
}

}  // namespace
}  // namespace tutti
