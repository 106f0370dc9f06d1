#include "tests/harness/rank_tensors.h"

#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "tests/harness/rank_words.h"

namespace tutti {
namespace {

std::byte* BytesOf(const TensorRef& ref) {
  return ref.is_plain() ? static_cast<std::byte*>(ref.plain()) : ref.tensor().bytes();
}

// No tensor if there is no such part.
TensorRef PartOf(const TensorRef& ref, size_t first, size_t count) {
  if (!ref.valid() || first > ref.count() || count > ref.count() - first) return {};
  if (!ref.is_plain()) return ref.tensor().Slice(first, count);
  return {BytesOf(ref) + first * SizeOf(ref.dtype()), ref.dtype(), count};
}

}  // namespace

void RankTensors::Put(const std::string& name, const Tensor& tensor) {
  named_[name] = Entry{nullptr, tensor};
}

void RankTensors::PutPlain(const std::string& name, DataType dtype, size_t count) {
  auto memory = std::make_unique<std::byte[]>(count * SizeOf(dtype));
  const TensorRef ref(memory.get(), dtype, count);
  named_[name] = Entry{std::move(memory), ref};
}

TensorRef RankTensors::Find(const std::string& text) const {
  const Words words = absl::StrSplit(text, absl::ByAnyChar("[:]"));
  const auto it = named_.find(words[0]);
  if (it == named_.end()) return {};
  if (words.size() < 3) return it->second.ref;
  const uint64_t first = Number(words[1]);
  const uint64_t end = Number(words[2]);
  return end < first ? TensorRef() : PartOf(it->second.ref, first, end - first);
}

TensorList RankTensors::List(const std::string& text) const {
  std::vector<TensorRef> refs;
  if (text == "-") return refs;
  for (const std::string& item : Words(absl::StrSplit(text, ','))) {
    const Words words = absl::StrSplit(item, '/');
    const TensorRef whole = Find(words[0]);
    if (words.size() == 1) {
      refs.push_back(whole);
      continue;
    }
    const size_t parts = Number(words[1]);
    for (size_t i = 0; i < parts; ++i) {
      refs.push_back(PartOf(whole, i * (whole.count() / parts), whole.count() / parts));
    }
  }
  return refs;
}

std::optional<Elements> RankTensors::ElementsOf(const std::string& text) const {
  const TensorRef ref = Find(text);
  if (!ref.valid()) return std::nullopt;
  return Elements{BytesOf(ref), ref.dtype(), ref.count()};
}

}  // namespace tutti
