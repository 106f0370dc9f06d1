#include "shm/mapping.h"

#include <sys/mman.h>

#include <utility>

#include "base/check.h"

namespace tutti {

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    Unmap();
    data_ = std::exchange(other.data_, nullptr);
    size_bytes_ = std::exchange(other.size_bytes_, 0);
  }
  return *this;
}

Mapping::~Mapping() { Unmap(); }

void Mapping::Unmap() {
  // Fails only for a range that was never ours: memory of somebody else may be gone already.
  if (data_ != nullptr) TUTTI_CHECK(munmap(data_, size_bytes_) == 0);
}

}  // namespace tutti
