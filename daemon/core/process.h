// What the kernel says of a client's process: the difference between slow and stopped.
#pragma once

#include <cstdint>

namespace tutti {

enum class ProcessState : uint8_t { kUnknown, kRunning, kStopped, kGone };

// Injected, so that tests can say what a process does. Thread-safe.
class ProcessProbe {
 public:
  virtual ~ProcessProbe() = default;
  // `pid` 0 is unknown.
  virtual ProcessState StateOf(uint32_t pid) const = 0;
};

// Reads /proc/<pid>/stat.
class ProcProcessProbe final : public ProcessProbe {
 public:
  ProcessState StateOf(uint32_t pid) const override;
};

}  // namespace tutti
