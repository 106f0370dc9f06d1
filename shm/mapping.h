// A range of memory that mmap returned, with an owner.
//
// Move-only; unmaps on destruction, which takes 85 ms per GiB: never on the control loop. The
// object is not thread-safe, as a pointer is not; the memory may be used from any thread.
#pragma once

#include <cstddef>

namespace tutti {

class Mapping {
 public:
  Mapping() = default;
  // Takes ownership of `size_bytes` bytes at `data`, as mmap returned them.
  Mapping(void* data, size_t size_bytes)
      : data_(static_cast<std::byte*>(data)), size_bytes_(size_bytes) {}
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  // Null if it owns nothing. The owner's constness is not the memory's: other processes write there
  // anyway.
  std::byte* data() const { return data_; }
  size_t size_bytes() const { return size_bytes_; }

 private:
  void Unmap();

  std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
};

}  // namespace tutti
