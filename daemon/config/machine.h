// What the daemon may use of the machine: what settings that say "0" are computed from.
//
// Thread-safe: free functions without state.
#pragma once

#include <cstdint>
#include <string>

namespace tutti {

struct Machine {
  // The smaller of the machine's memory and the limits of our cgroup and its parents; 0 if unknown.
  uint64_t memory_bytes = 0;
  // Processors that we may run on at once; at least 1.
  uint32_t processors = 1;
  bool root = false;
  // $XDG_RUNTIME_DIR; empty if there is none.
  std::string runtime_dir;
};

// Reads /proc and /sys below `root`, which only tests set. Understands cgroups of both versions.
uint64_t ReadMemoryBytes(const std::string& root = "");
// The processors that a quota of the cgroup pays for, of `available` ones.
uint32_t ReadProcessorQuota(uint32_t available, const std::string& root = "");

// This process's machine.
Machine ReadMachine();

}  // namespace tutti
