// A barrier between processes, in a file that all of them map: what starts the clocks of all ranks
// together. The contestants' own barriers would not do: each would start its ranks differently.
//
// One thread per process. The C functions are for Python.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace tutti::bench {

class Barrier {
 public:
  // `path`: a file of at least a page of zeros. Ends the process if it can't be mapped.
  Barrier(const std::string& path, uint32_t parties);
  ~Barrier();
  Barrier(const Barrier&) = delete;
  Barrier& operator=(const Barrier&) = delete;

  // Returns when all have called it, on all of them within about a microsecond if each has a core.
  // Ends the process if that takes more than a minute.
  void Wait();

 private:
  struct State {
    std::atomic<uint32_t> arrived;
    std::atomic<uint32_t> phase;
  };

  void Meet();

  State* const state_;
  const uint32_t parties_;
};

// Writes the lines of these bytes back and drops them from every cache, in all processes.
void Evict(const void* data, uint64_t bytes);

}  // namespace tutti::bench

extern "C" {
void* tutti_bench_barrier_open(const char* path, uint32_t parties);
void tutti_bench_barrier_wait(void* barrier);
void tutti_bench_evict(const void* data, uint64_t bytes);
}
