#include "daemon/core/send_buffer.h"

#include <utility>

#include "daemon/core/limits.h"

namespace tutti {

SendBudget::SendBudget(uint64_t bytes_max, std::shared_ptr<SendBudget> whole)
    : bytes_max_(bytes_max), whole_(std::move(whole)) {}

bool SendBudget::Take(uint64_t bytes) {
  if (bytes > bytes_max_ - bytes_) return false;
  if (whole_ != nullptr && !whole_->Take(bytes)) return false;
  bytes_ += bytes;
  return true;
}

void SendBudget::Return(uint64_t bytes) {
  bytes_ -= bytes;
  if (whole_ != nullptr) whole_->Return(bytes);
}

std::unique_ptr<SendBuffer> SendBuffer::Copy(std::shared_ptr<SendBudget> budget,
                                             const Buffer& sent) {
  if (!budget->Take(sent.size_bytes + kSentOverheadBytes)) return nullptr;
  return std::unique_ptr<SendBuffer>(new SendBuffer(std::move(budget), sent));
}

SendBuffer::SendBuffer(std::shared_ptr<SendBudget> budget, const Buffer& sent)
    : budget_(std::move(budget)), bytes_(sent.data, sent.data + sent.size_bytes) {}

SendBuffer::~SendBuffer() { budget_->Return(bytes_.size() + kSentOverheadBytes); }

}  // namespace tutti
