// Small sends complete once their bytes are copied, before anyone has received them. The copies are
// the daemon's own memory, so they are counted; where there is no room a send completes when it is
// matched, as large ones do, and nothing fails.
//
// Lives on the control loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "backends/backend.h"

namespace tutti {

// Bytes that sent copies may take: of one session, out of those of the daemon. Outlives what it
// counts by being shared with it.
class SendBudget {
 public:
  explicit SendBudget(uint64_t bytes_max, std::shared_ptr<SendBudget> whole = nullptr);

  // False, and nothing taken, if there is no room here or in the whole.
  bool Take(uint64_t bytes);
  void Return(uint64_t bytes);
  uint64_t bytes() const { return bytes_; }

 private:
  const uint64_t bytes_max_;
  const std::shared_ptr<SendBudget> whole_;
  uint64_t bytes_ = 0;
};

// A copy of what was sent, until it is received.
class SendBuffer {
 public:
  // Null if there is no room.
  static std::unique_ptr<SendBuffer> Copy(std::shared_ptr<SendBudget> budget, const Buffer& sent);
  ~SendBuffer();
  SendBuffer(const SendBuffer&) = delete;
  SendBuffer& operator=(const SendBuffer&) = delete;

  Buffer buffer() { return {bytes_.data(), bytes_.size()}; }

 private:
  SendBuffer(std::shared_ptr<SendBudget> budget, const Buffer& sent);

  const std::shared_ptr<SendBudget> budget_;
  std::vector<std::byte> bytes_;
};

}  // namespace tutti
