#include "client/cpp/free_list.h"

#include <iterator>

#include "base/check.h"

namespace tutti {
inline namespace client {

FreeList::FreeList(size_t size_bytes) : size_bytes_(size_bytes) { Insert(0, size_bytes); }

std::optional<size_t> FreeList::Take(size_t bytes) {
  TUTTI_CHECK(bytes > 0);
  const auto fit = by_size_.lower_bound({bytes, 0});
  if (fit == by_size_.end()) return std::nullopt;
  const auto [range_bytes, offset] = *fit;
  Erase(by_offset_.find(offset));
  if (range_bytes > bytes) Insert(offset + bytes, range_bytes - bytes);
  return offset;
}

void FreeList::Give(size_t offset, size_t bytes) {
  const auto next = by_offset_.lower_bound(offset);
  size_t first = offset;
  size_t last = offset + bytes;
  if (next != by_offset_.begin()) {
    const auto before = std::prev(next);
    const size_t before_end = before->first + before->second;
    TUTTI_CHECK(before_end <= offset);  // else it was free already
    if (before_end == offset) {
      first = before->first;
      Erase(before);
    }
  }
  if (next != by_offset_.end()) {
    TUTTI_CHECK(next->first >= last);
    if (next->first == last) {
      last += next->second;
      Erase(next);
    }
  }
  Insert(first, last - first);
}

bool FreeList::AllFree() const {
  return by_offset_.size() == 1 && by_offset_.begin()->second == size_bytes_;
}

void FreeList::Insert(size_t offset, size_t bytes) {
  by_offset_[offset] = bytes;
  by_size_.insert({bytes, offset});
}

void FreeList::Erase(std::map<size_t, size_t>::iterator it) {
  by_size_.erase({it->second, it->first});
  by_offset_.erase(it);
}

}  // namespace client
}  // namespace tutti
