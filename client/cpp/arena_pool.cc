#include "client/cpp/arena_pool.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "client/cpp/fork.h"

namespace tutti {
inline namespace client {
namespace {

// Of blocks: a cache line, and what AVX-512 loads at once.
constexpr size_t kAlignmentBytes = 64;

// Arenas are whole huge pages, should the kernel use them.
constexpr size_t kArenaUnitBytes = size_t{2} << 20;

// A new arena has an eighth of what there is already, so at most an eighth is wasted; at least
// 4 MiB, made in 2 ms; at most 1 GiB, made in half a second. With the daemon's default of 256
// arenas per session that reaches beyond 200 GiB, however small the tensors.
constexpr size_t kArenaBytesMin = size_t{4} << 20;
constexpr size_t kArenaBytesMax = size_t{1} << 30;

size_t RoundUp(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

Block::Block(std::weak_ptr<ArenaPool> pool, std::shared_ptr<const Mapping> mapping, uint64_t arena,
             size_t offset, size_t bytes)
    : pool_(std::move(pool)),
      mapping_(std::move(mapping)),
      arena_(arena),
      offset_(offset),
      bytes_(bytes),
      fork_count_(ForkCount()) {}

Block::~Block() {
  // In a forked child another thread may have held the pool's lock for ever.
  if (ForkCount() != fork_count_) return;
  if (const std::shared_ptr<ArenaPool> pool = pool_.lock()) pool->Give(arena_, offset_, bytes_);
}

ArenaPool::~ArenaPool() = default;

Result<std::shared_ptr<const Block>> ArenaPool::Allocate(size_t bytes) {
  bytes = RoundUp(std::max<size_t>(bytes, 1), kAlignmentBytes);
  if (std::shared_ptr<const Block> block = Take(bytes)) return block;

  Result<ArenaSource::Arena> made = source_->Make(NextArenaBytes(bytes));
  if (!made.ok() && made.failure().cause == Cause::kLimit) {
    // Once more, with what lies idle given back, and no larger than it must be. If that fails too,
    // another thread may have freed enough meanwhile.
    ReleaseFreeArenas();
    made = source_->Make(RoundUp(bytes, kArenaUnitBytes));
    if (!made.ok()) {
      if (std::shared_ptr<const Block> block = Take(bytes)) return block;
    }
  }
  if (!made.ok()) return made.failure();

  auto mapping = std::make_shared<const Mapping>(std::move(made->mapping));
  auto arena = std::make_unique<Arena>(Arena{made->id, mapping, FreeList(mapping->size_bytes())});
  const std::optional<size_t> offset = arena->free.Take(bytes);
  auto block = std::make_shared<const Block>(weak_from_this(), mapping, arena->id, *offset, bytes);
  const MutexLock lock(&mutex_);
  arenas_.push_back(std::move(arena));
  return std::shared_ptr<const Block>(std::move(block));
}

std::shared_ptr<const Block> ArenaPool::Take(size_t bytes) {
  const MutexLock lock(&mutex_);
  for (const std::unique_ptr<Arena>& arena : arenas_) {
    if (const std::optional<size_t> offset = arena->free.Take(bytes)) {
      return std::make_shared<const Block>(weak_from_this(), arena->mapping, arena->id, *offset,
                                           bytes);
    }
  }
  return nullptr;
}

void ArenaPool::ReleaseFreeArenas() {
  std::vector<std::unique_ptr<Arena>> released;
  {
    const MutexLock lock(&mutex_);
    const auto kept = std::partition(arenas_.begin(), arenas_.end(),
                                     [](const auto& arena) { return !arena->free.AllFree(); });
    std::move(kept, arenas_.end(), std::back_inserter(released));
    arenas_.erase(kept, arenas_.end());
  }
  for (const std::unique_ptr<Arena>& arena : released) source_->Release(arena->id);
}

void ArenaPool::Give(uint64_t arena_id, size_t offset, size_t bytes) {
  const MutexLock lock(&mutex_);
  const auto it = std::find_if(arenas_.begin(), arenas_.end(),
                               [&](const auto& arena) { return arena->id == arena_id; });
  if (it != arenas_.end()) (*it)->free.Give(offset, bytes);
}

size_t ArenaPool::NextArenaBytes(size_t bytes) {
  size_t total = 0;
  {
    const MutexLock lock(&mutex_);
    for (const std::unique_ptr<Arena>& arena : arenas_) total += arena->mapping->size_bytes();
  }
  return RoundUp(std::max(bytes, std::clamp(total / 8, kArenaBytesMin, kArenaBytesMax)),
                 kArenaUnitBytes);
}

}  // namespace client
}  // namespace tutti
