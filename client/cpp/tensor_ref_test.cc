#include "client/cpp/tensor_ref.h"

#include <catch2/catch.hpp>
#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "client/cpp/arena_pool.h"
#include "shm/arena.h"

namespace tutti {
namespace {

// Memory without a daemon.
class LocalSource final : public ArenaSource {
 public:
  Result<Arena> Make(size_t size_bytes) override {
    auto file = CreateArenaFile(size_bytes);
    auto mapping = PopulateArena(file->get(), size_bytes);
    return Arena{1, *std::move(mapping)};
  }
  void Release(uint64_t) override {}
};

Tensor MakeFloats(ArenaPool* pool, size_t count) {
  auto block = pool->Allocate(count * sizeof(float));
  REQUIRE(block.ok());
  std::byte* const bytes = (*block)->data();
  return Tensor(*std::move(block), bytes, DataType::kFloat32, count);
}

// What may be written as an argument, and what may not.
static_assert(std::convertible_to<const Tensor&, TensorRef>);
static_assert(std::convertible_to<absl::Span<float>, TensorRef>);
static_assert(std::convertible_to<absl::Span<bool>, TensorRef>);
static_assert(std::convertible_to<std::vector<uint8_t>&, TensorRef>);
static_assert(std::convertible_to<std::array<int64_t, 3>&, TensorRef>);
static_assert(!std::convertible_to<std::vector<float>, TensorRef>, "it would be gone at Wait");
static_assert(!std::convertible_to<const std::vector<float>&, TensorRef>, "it may be written");
static_assert(!std::convertible_to<absl::Span<const float>, TensorRef>, "it may be written");
static_assert(!std::convertible_to<std::vector<bool>&, TensorRef>, "it has no elements in memory");
static_assert(!std::convertible_to<std::vector<std::string>&, TensorRef>);

static_assert(std::convertible_to<std::vector<Tensor>&, TensorList>);
static_assert(std::convertible_to<const std::vector<Tensor>&, TensorList>);
static_assert(std::convertible_to<std::vector<Tensor>, TensorList>);
static_assert(std::convertible_to<std::vector<TensorRef>, TensorList>);
static_assert(std::convertible_to<std::vector<std::vector<float>>&, TensorList>);
static_assert(std::convertible_to<std::array<absl::Span<double>, 2>, TensorList>);
static_assert(!std::convertible_to<std::vector<std::vector<float>>, TensorList>, "gone at Wait");
static_assert(!std::convertible_to<std::vector<float>&, TensorList>, "that is one tensor");

TEST_CASE("plain memory says what it is") {
  std::vector<int32_t> values(7);
  const TensorRef ref = values;
  CHECK((ref.valid() && ref.is_plain() && !ref.is_read_only()));
  CHECK(ref.dtype() == DataType::kInt32);
  CHECK(ref.count() == 7);
  CHECK(ref.size_bytes() == 28);
  CHECK(ref.plain() == values.data());

  std::vector<uint16_t> halves(5);
  const TensorRef half(halves.data(), DataType::kBfloat16, halves.size());
  CHECK((half.dtype() == DataType::kBfloat16 && half.size_bytes() == 10));

  const std::vector<double> constants(3);
  const TensorRef constant = TensorRef::ReadOnly(absl::MakeConstSpan(constants));
  CHECK((constant.is_read_only() && constant.plain() == constants.data()));
}

TEST_CASE("nothing is not valid, memory without elements is") {
  CHECK_FALSE(TensorRef().valid());
  CHECK_FALSE(TensorRef(Tensor()).valid());
  CHECK(TensorRef(absl::Span<float>()).valid());
}

TEST_CASE("lists are written in braces, or are ranges") {
  LocalSource source;
  const auto pool = std::make_shared<ArenaPool>(&source);
  const Tensor tensor = MakeFloats(pool.get(), 4);
  std::vector<float> plain(3);
  const TensorList mixed = {tensor, plain, {plain.data(), DataType::kUint8, 12}};
  REQUIRE(mixed.size() == 3);
  CHECK(mixed[0].tensor().bytes() == tensor.bytes());
  CHECK(mixed[1].count() == 3);
  CHECK(mixed[2].dtype() == DataType::kUint8);

  std::vector<std::vector<float>> parts = {{1, 2}, {}};
  const TensorList list = parts;
  REQUIRE(list.size() == 2);
  CHECK((list[0].count() == 2 && list[1].count() == 0));
  CHECK(TensorList({}).empty());
  const TensorList copy = list;  // NOLINT(performance-unnecessary-copy-initialization): the point
  CHECK(copy.size() == 2);
}

TEST_CASE("a slice is a view that keeps the memory") {
  LocalSource source;
  const auto pool = std::make_shared<ArenaPool>(&source);
  Tensor slice;
  const std::byte* begin = nullptr;
  {
    const Tensor tensor = MakeFloats(pool.get(), 10);
    begin = tensor.bytes();
    tensor.data<float>()[4] = 42;
    slice = tensor.Slice(2, 5).Slice(1, 3);
    CHECK(tensor.Slice(10, 0).count() == 0);
  }
  REQUIRE(slice.count() == 3);
  CHECK(slice.dtype() == DataType::kFloat32);
  CHECK(slice.bytes() == begin + 12);
  CHECK(slice.data<float>()[1] == 42);
  // Else it would be the memory of the next.
  CHECK(MakeFloats(pool.get(), 10).bytes() != begin);
}

}  // namespace
}  // namespace tutti
