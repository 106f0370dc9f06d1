// The memory of a client's tensors: arenas that are kept and reused, since making one costs half a
// second per GiB (fallocate, mmap, the daemon's mapping).
//
// Thread-safe. Owned by the connection; blocks may outlive it, and keep their mapping.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "client/cpp/free_list.h"
#include "shm/mapping.h"

namespace tutti {
inline namespace client {

class ArenaPool;

// A range of an arena; gives itself back when it is destroyed.
class Block {
 public:
  Block(std::weak_ptr<ArenaPool> pool, std::shared_ptr<const Mapping> mapping, uint64_t arena,
        size_t offset, size_t bytes);
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  uint64_t arena() const { return arena_; }
  size_t offset() const { return offset_; }
  std::byte* data() const { return mapping_->data() + offset_; }
  // True if it belongs to `pool`: arenas are numbered per session, and mean nothing in another one.
  bool IsOf(const ArenaPool* pool) const { return pool_.lock().get() == pool; }

 private:
  const std::weak_ptr<ArenaPool> pool_;
  // Shared with the pool: whoever goes last unmaps.
  const std::shared_ptr<const Mapping> mapping_;
  const uint64_t arena_;
  const size_t offset_;
  const size_t bytes_;
  const uint32_t fork_count_;
};

// Where arenas come from: the daemon, or a test. Both may block; called without a lock.
class ArenaSource {
 public:
  struct Arena {
    uint64_t id = 0;
    Mapping mapping;
  };
  virtual ~ArenaSource() = default;
  // Fails with kLimit if the daemon gives no more, and with whatever else went wrong.
  virtual Result<Arena> Make(size_t size_bytes) = 0;
  // The arena is used no more.
  virtual void Release(uint64_t id) = 0;
};

class ArenaPool : public std::enable_shared_from_this<ArenaPool> {
 public:
  // `source` must outlive the last Allocate.
  explicit ArenaPool(ArenaSource* source) : source_(source) {}
  ~ArenaPool();

  // Room for `bytes`, aligned to a cache line. Makes an arena if no free range is large enough; at
  // the daemon's limit first gives back arenas that are wholly free. Fails as ArenaSource::Make.
  Result<std::shared_ptr<const Block>> Allocate(size_t bytes);

 private:
  friend class Block;

  struct Arena {
    uint64_t id = 0;
    // Shared with the blocks.
    std::shared_ptr<const Mapping> mapping;
    FreeList free;
  };

  // Null if there is no room.
  std::shared_ptr<const Block> Take(size_t bytes);
  void ReleaseFreeArenas();
  void Give(uint64_t arena, size_t offset, size_t bytes);
  size_t NextArenaBytes(size_t bytes);

  ArenaSource* const source_;
  Mutex mutex_;
  std::vector<std::unique_ptr<Arena>> arenas_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace client
}  // namespace tutti
