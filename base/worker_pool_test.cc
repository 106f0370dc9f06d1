#include "base/worker_pool.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <fstream>
#include <latch>
#include <memory>
#include <string>

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
