// The free ranges of one arena: best fit, neighbours joined.
//
// Pure logic, not thread-safe; owned by ArenaPool.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <utility>

namespace tutti {
inline namespace client {

class FreeList {
 public:
  // All `size_bytes` are free.
  explicit FreeList(size_t size_bytes);

  // Takes `bytes` from the smallest range that has them, and returns the offset.
  // REQUIRES: bytes > 0
  std::optional<size_t> Take(size_t bytes);

  // Gives back what Take returned.
  void Give(size_t offset, size_t bytes);

  // True if nothing is taken.
  bool AllFree() const;

 private:
  void Insert(size_t offset, size_t bytes);
  void Erase(std::map<size_t, size_t>::iterator it);

  const size_t size_bytes_;
  std::map<size_t, size_t> by_offset_;           // offset -> bytes
  std::set<std::pair<size_t, size_t>> by_size_;  // (bytes, offset)
};

}  // namespace client
}  // namespace tutti
