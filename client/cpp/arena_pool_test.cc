#include "client/cpp/arena_pool.h"

#include <sys/mman.h>

#include <catch2/catch.hpp>
#include <set>

namespace tutti {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

// Anonymous memory instead of a daemon's.
class FakeSource final : public ArenaSource {
 public:
  Result<Arena> Make(size_t size_bytes) override {
    sizes.push_back(size_bytes);
    if (living.size() >= arenas_max) return Failure{.cause = Cause::kLimit, .message = "full"};
    void* const data = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    living.insert(++last_id);
    return Arena{last_id, Mapping(data, size_bytes)};
  }
  void Release(uint64_t id) override { REQUIRE(living.erase(id) == 1); }

  size_t arenas_max = 1000;
  uint64_t last_id = 0;
  std::set<uint64_t> living;
  std::vector<size_t> sizes;
};

std::shared_ptr<const Block> MustAllocate(ArenaPool* pool, size_t bytes) {
  Result<std::shared_ptr<const Block>> block = pool->Allocate(bytes);
  REQUIRE(block.ok());
  return *std::move(block);
}

TEST_CASE("small tensors share an arena, aligned to cache lines") {
  FakeSource source;
  const auto pool = std::make_shared<ArenaPool>(&source);
  const auto a = MustAllocate(pool.get(), 1);
  const auto b = MustAllocate(pool.get(), 100);
  CHECK(source.sizes == std::vector<size_t>{4 * kMiB});
  CHECK(a->arena() == b->arena());
  CHECK(a->data() != b->data());
  CHECK(reinterpret_cast<uintptr_t>(b->data()) % 64 == 0);
}

TEST_CASE("what is dropped is used again, without a new arena") {
  FakeSource source;
  const auto pool = std::make_shared<ArenaPool>(&source);
  for (int i = 0; i < 100; ++i) MustAllocate(pool.get(), 64 * kMiB);
  CHECK(source.sizes == std::vector<size_t>{64 * kMiB});
}

TEST_CASE("arenas grow with what there is, so that their number stays small") {
  FakeSource source;
  const auto pool = std::make_shared<ArenaPool>(&source);
  std::vector<std::shared_ptr<const Block>> blocks;
  for (int i = 0; i < 8192; ++i) blocks.push_back(MustAllocate(pool.get(), kMiB));  // 8 GiB
  CHECK(source.sizes.size() < 64);
  size_t total = 0;
  for (const size_t size : source.sizes) total += size;
  CHECK(total < 8192 * kMiB * 9 / 8 + 4 * kMiB);
}

TEST_CASE("at the daemon's limit idle arenas are given back, and the arena is as small as can be") {
  FakeSource source;
  source.arenas_max = 2;
  const auto pool = std::make_shared<ArenaPool>(&source);
  const auto kept = MustAllocate(pool.get(), 4 * kMiB);
  MustAllocate(pool.get(), 4 * kMiB);  // dropped at once
  const auto large = MustAllocate(pool.get(), 5 * kMiB);
  CHECK(source.living.size() == 2);
  CHECK(source.living.count(kept->arena()) == 1);
  CHECK(source.living.count(large->arena()) == 1);
  CHECK(source.sizes.back() == 6 * kMiB);
}

TEST_CASE("with nothing to give back, the limit is the caller's answer") {
  FakeSource source;
  source.arenas_max = 1;
  const auto pool = std::make_shared<ArenaPool>(&source);
  const auto kept = MustAllocate(pool.get(), 4 * kMiB);
  const auto refused = pool->Allocate(kMiB);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.failure().cause == Cause::kLimit);
}

TEST_CASE("a block outlives its pool, with its memory") {
  FakeSource source;
  auto pool = std::make_shared<ArenaPool>(&source);
  const auto block = MustAllocate(pool.get(), 1000);
  CHECK(block->IsOf(pool.get()));
  pool.reset();
  block->data()[999] = std::byte{7};
  CHECK(block->data()[999] == std::byte{7});
}

}  // namespace
}  // namespace tutti
