#include "daemon/core/work.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace tutti {

bool operator==(const Signature& a, const Signature& b) {
  return std::memcmp(&a, &b, sizeof(Signature)) == 0;
}

std::string Describe(const Signature& signature) {
  std::string text(NameOf(signature.kind));
  if (signature.kind == CollectiveKind::kBarrier || signature.kind == CollectiveKind::kAgree) {
    return text;
  }
  if (signature.kind == CollectiveKind::kAllToAll) {
    return absl::StrCat(text, " of ", NameOf(signature.dtype));
  }
  if (signature.op != ReduceOp::kNone) absl::StrAppend(&text, " ", NameOf(signature.op));
  absl::StrAppend(&text, " of ", signature.count, " ", NameOf(signature.dtype));
  if (signature.parts > 1) absl::StrAppend(&text, " in ", signature.parts, " tensors");
  if (IsRooted(signature.kind)) absl::StrAppend(&text, ", root ", signature.root);
  return text;
}

const Work& Operation::any() const {
  for (const auto& work : works) {
    if (work != nullptr) return *work;
  }
  TUTTI_CHECK(false && "an operation exists because some rank has submitted it");
}

bool Operation::awaited() const {
  return std::any_of(works.begin(), works.end(),
                     [](const auto& work) { return work != nullptr && !work->told; });
}

std::string Describe(const Operation& operation) {
  return absl::StrCat(NameOf(operation.any().signature.kind), " #", operation.sequence);
}

}  // namespace tutti
