#include "tests/bench/barrier.h"

#include <emmintrin.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>

namespace tutti::bench {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kLineBytes = 64;
// Some 100 us of an otherwise idle core: longer than it takes to wake whoever slept in the first
// of the two meetings, and short enough to leave the core to those who still have work.
constexpr int kYieldsMax = 400;
constexpr int kPatienceS = 60;

[[noreturn]] void Die(const char* what) {
  std::perror(what);
  std::_Exit(1);
}

void* Map(const std::string& path) {
  const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) Die(path.c_str());
  void* const mapped = mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) Die("mmap of the barrier");
  close(file);
  return mapped;
}

int64_t Futex(std::atomic<uint32_t>* word, int operation, uint32_t value, const timespec* timeout) {
  return syscall(SYS_futex, word, operation, value, timeout, nullptr, 0);
}

}  // namespace

Barrier::Barrier(const std::string& path, uint32_t parties)
    : state_(static_cast<State*>(Map(path))), parties_(parties) {}

Barrier::~Barrier() { munmap(state_, kPageBytes); }

void Barrier::Wait() {
  // Who comes early to the first meeting sleeps, and wakes up late. At the second all are awake.
  Meet();
  Meet();
}

void Barrier::Meet() {
  const uint32_t phase = state_->phase.load();
  if (state_->arrived.fetch_add(1) + 1 == parties_) {
    state_->arrived.store(0);
    state_->phase.store(phase + 1);
    Futex(&state_->phase, FUTEX_WAKE, INT_MAX, nullptr);
    return;
  }
  for (int yields = 0; yields < kYieldsMax; ++yields) {
    if (state_->phase.load() != phase) return;
    sched_yield();
  }
  const timespec patience = {.tv_sec = kPatienceS, .tv_nsec = 0};
  while (state_->phase.load() == phase) {
    if (Futex(&state_->phase, FUTEX_WAIT, phase, &patience) != 0 && errno == ETIMEDOUT) {
      Die("the other ranks did not reach the barrier");
    }
  }
}

void Evict(const void* data, uint64_t bytes) {
  const char* const begin = static_cast<const char*>(data);
  for (uint64_t offset = 0; offset < bytes; offset += kLineBytes) _mm_clflush(begin + offset);
  _mm_mfence();
}

}  // namespace tutti::bench

void* tutti_bench_barrier_open(const char* path, uint32_t parties) {
  return new tutti::bench::Barrier(path, parties);
}

void tutti_bench_barrier_wait(void* barrier) {
  static_cast<tutti::bench::Barrier*>(barrier)->Wait();
}

void tutti_bench_evict(const void* data, uint64_t bytes) { tutti::bench::Evict(data, bytes); }
