#include "base/failpoint.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <thread>
#include <vector>

#include "base/thread.h"

namespace tutti {
namespace {

#ifdef TUTTI_FAILPOINTS

FailpointState Query(const char* name) { return SetFailpoint(name, FailpointAction::kQuery, 0); }

void WaitUntilHeld(const char* name, uint32_t held) {
  while (Query(name).held != held) std::this_thread::yield();
}

TEST_CASE("A failpoint that nobody has named costs nothing and counts nothing") {
  Failpoint("test.unnamed");
  CHECK(!Mutated("test.unnamed"));
  CHECK(Query("test.unnamed").hits == 0);  // named from here on
  Failpoint("test.unnamed");
  CHECK(Query("test.unnamed").hits == 1);
}

TEST_CASE("Threads are held until the action changes") {
  SetFailpoint("test.pause", FailpointAction::kPause, 1);
  std::atomic<int> through{0};
  std::vector<std::unique_ptr<Thread>> threads;
  for (int i = 0; i < 3; ++i) {
    threads.push_back(std::make_unique<Thread>("held", [&] {
      Failpoint("test.pause");
      ++through;
    }));
  }
  WaitUntilHeld("test.pause", 3);
  CHECK(through == 0);
  Failpoint("test.other");  // another one is free
  SetFailpoint("test.pause", FailpointAction::kOff, 0);
  threads.clear();
  CHECK(through == 3);
  CHECK(Query("test.pause").hits == 3);
  CHECK(Query("test.pause").held == 0);
}

TEST_CASE("Only the n-th hit from now on is held") {
  SetFailpoint("test.third", FailpointAction::kPause, 3);
  Failpoint("test.third");
  Failpoint("test.third");
  {
    const Thread thread("held", [] { Failpoint("test.third"); });
    WaitUntilHeld("test.third", 1);
    SetFailpoint("test.third", FailpointAction::kOff, 0);
  }
  SetFailpoint("test.third", FailpointAction::kPause, 2);
  Failpoint("test.third");  // counted anew: this is the first
  SetFailpoint("test.third", FailpointAction::kOff, 0);
  CHECK(Query("test.third").hits == 4);
}

TEST_CASE("A mutation is on from its hit until it is switched off") {
  SetFailpoint("test.mutate", FailpointAction::kMutate, 2);
  CHECK(!Mutated("test.mutate"));
  CHECK(Mutated("test.mutate"));
  CHECK(Mutated("test.mutate"));
  Failpoint("test.mutate");  // holds only on kPause
  SetFailpoint("test.mutate", FailpointAction::kOff, 0);
  CHECK(!Mutated("test.mutate"));
}

TEST_CASE("Hits of many threads are all counted") {
  SetFailpoint("test.count", FailpointAction::kOff, 0);
  std::vector<std::unique_ptr<Thread>> threads;
  for (int i = 0; i < 4; ++i) {
    threads.push_back(std::make_unique<Thread>("counter", [] {
      for (int hit = 0; hit < 1000; ++hit) Failpoint("test.count");
    }));
  }
  threads.clear();
  CHECK(Query("test.count").hits == 4000);
}

#else

TEST_CASE("Without failpoints built in, setting one does nothing") {
  CHECK(!kFailpointsBuiltIn);
  CHECK(SetFailpoint("test.pause", FailpointAction::kPause, 1).hits == 0);
  Failpoint("test.pause");
  CHECK(!Mutated("test.pause"));
}

#endif

}  // namespace
}  // namespace tutti
