// A machine with two processors whose stores wait in buffers, as x86's do (x86-TSO: Sewell et al.,
// CACM 53(7), 2010), and every order in which it can run two threads: for tests of code that shares
// memory, which is a template over what touches it.
//
//   ForEachOrder([](TsoMachine* machine) {
//     machine->Run([] { ...TsoMemory::Store(&x, 1)... }, [] { ...TsoMemory::Load(&x)... });
//     CHECK(...);
//   });
//
// The threads are fibers of the caller's thread: nothing runs but what the order says. Each order
// is run from the beginning, so what the threads share must be made anew inside of the callback. An
// order that comes to a state in which another has been is not followed further (and its fibers
// are dropped as they are): so threads share nothing but what goes through TsoMemory and the bell.
#pragma once

#include <ucontext.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"

namespace tutti {

class TsoMachine {
 public:
  TsoMachine(std::vector<size_t>* choices, std::set<std::string>* seen)
      : choices_(choices), forced_(choices->size()), seen_(seen) {}

  // Until both have ended and their stores are in memory.
  void Run(std::function<void()> first, std::function<void()> second) {
    current_ = this;
    bodies_ = {std::move(first), std::move(second)};
    for (size_t i = 0; i < 2; ++i) Prepare(i);
    while (Step()) {
    }
    current_ = nullptr;
  }

  // --- What TsoMemory does, on a fiber ---

  template <typename T>
  T Load(T* from) {
    Yield();
    uint64_t value = 0;
    const auto& buffer = fibers_[running_].buffer;
    std::memcpy(&value, from, sizeof(T));
    for (const BufferedStore& store : buffer) {
      if (store.to == from) value = store.value;
    }
    fibers_[running_].loaded.push_back(value);
    return static_cast<T>(value);
  }
  template <typename T>
  void Store(T* to, T value) {
    Yield();
    fibers_[running_].buffer.push_back({to, value, sizeof(T)});
  }
  void Fence() {
    Yield();
    while (!fibers_[running_].buffer.empty()) Flush(running_);
  }
  // A doorbell: whoever waits for it goes on once it has been rung since.
  void Ring() {
    Yield();
    rung_ = true;
  }
  void WaitForRing() {
    fibers_[running_].waits = true;
    Yield();
    fibers_[running_].waits = false;
    rung_ = false;
  }
  // True if a fiber waits for a ring that will not come.
  bool stuck() const { return stuck_; }
  // False if the rest of this order was left out.
  bool followed() const { return followed_; }

  static TsoMachine* current() { return current_; }

 private:
  struct BufferedStore {
    void* to = nullptr;
    uint64_t value = 0;
    size_t size = 0;
  };
  struct Fiber {
    ucontext_t context{};
    std::vector<char> stack = std::vector<char>(64 << 10);
    std::deque<BufferedStore> buffer;
    // All that its future depends on, beside memory.
    std::vector<uint64_t> loaded;
    size_t steps = 0;
    bool waits = false;
    bool ended = false;
  };

  void Prepare(size_t i) {
    Fiber& fiber = fibers_[i];
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = &scheduler_;
    makecontext(&fiber.context, &TsoMachine::Enter, 0);
  }
  static void Enter() {
    TsoMachine* const machine = current_;
    machine->bodies_[machine->running_]();
    machine->fibers_[machine->running_].ended = true;
  }

  void Yield() { swapcontext(&fibers_[running_].context, &scheduler_); }

  void Flush(size_t i) {
    const BufferedStore store = fibers_[i].buffer.front();
    fibers_[i].buffer.pop_front();
    std::memcpy(store.to, &store.value, store.size);
    memory_[store.to] = store.value;
  }

  std::string State() const {
    std::string state(rung_ ? "r" : "-");
    const auto add = [&state](uint64_t value) { state += std::to_string(value) + ","; };
    for (const Fiber& fiber : fibers_) {
      add(fiber.steps);
      for (const uint64_t value : fiber.loaded) add(value);
      state += fiber.waits ? "w" : ";";
      for (const BufferedStore& store : fiber.buffer) {
        add(reinterpret_cast<uintptr_t>(store.to));
        add(store.value);
      }
      state += ";";
    }
    for (const auto& [at, value] : memory_) {
      add(reinterpret_cast<uintptr_t>(at));
      add(value);
    }
    return state;
  }

  // One of the things that may happen next: a fiber goes on, or its oldest store reaches memory.
  bool Step() {
    if (taken_ >= forced_ && !seen_->insert(State()).second) return followed_ = false;
    std::vector<std::function<void()>> possible;
    for (size_t i = 0; i < 2; ++i) {
      Fiber& fiber = fibers_[i];
      if (!fiber.ended && (!fiber.waits || rung_)) {
        possible.emplace_back([this, i] {
          running_ = i;
          ++fibers_[i].steps;
          swapcontext(&scheduler_, &fibers_[i].context);
        });
      }
      if (!fiber.buffer.empty()) possible.emplace_back([this, i] { Flush(i); });
    }
    if (possible.empty()) {
      stuck_ = !fibers_[0].ended || !fibers_[1].ended;
      return false;
    }
    possible[Choose(possible.size())]();
    return true;
  }

  // The prefix that is given, and then always the first.
  size_t Choose(size_t count) {
    if (taken_ == choices_->size()) choices_->push_back(0);
    counts_.push_back(count);
    return (*choices_)[taken_++];
  }

  friend size_t ForEachOrder(const std::function<void(TsoMachine*)>& run);

  inline static TsoMachine* current_ = nullptr;
  std::vector<size_t>* const choices_;
  const size_t forced_;
  std::set<std::string>* const seen_;
  std::vector<size_t> counts_;  // how many there were to choose from
  size_t taken_ = 0;
  size_t running_ = 0;
  std::map<void*, uint64_t> memory_;
  bool rung_ = false;
  bool stuck_ = false;
  bool followed_ = true;
  std::array<std::function<void()>, 2> bodies_;
  std::array<Fiber, 2> fibers_;
  ucontext_t scheduler_{};
};

// Runs every order. Returns how many there were to run.
inline size_t ForEachOrder(const std::function<void(TsoMachine*)>& run) {
  std::vector<size_t> choices;
  std::set<std::string> seen;
  for (size_t orders = 1;; ++orders) {
    TsoMachine machine(&choices, &seen);
    run(&machine);
    // The next one, depth first: the last choice that has an alternative takes it.
    while (!choices.empty() && choices.back() + 1 == machine.counts_[choices.size() - 1]) {
      choices.pop_back();
    }
    if (choices.empty()) return orders;
    ++choices.back();
  }
}

// For the template parameter `Memory`.
struct TsoMemory {
  template <typename T>
  static T Load(T* from) {
    return TsoMachine::current()->Load(from);
  }
  template <typename T>
  static void Store(T* to, T value) {
    TsoMachine::current()->Store(to, value);
  }
  static void Fence() { TsoMachine::current()->Fence(); }
  static void Prefetch(const void*) {}
};

}  // namespace tutti
