#include "daemon/core/work.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace tutti {

bool operator==(const Signature& a, const Signature& b) {
  return std::memcmp(&a, &b, sizeof(Signature)) == 0;
}

std::string Describe(const Signature& signature) {
  std::string text(NameOf(signature.kind));
  if (signature.kind == CollectiveKind::kBarrier) return text;
  if (signature.op != ReduceOp::kNone) absl::StrAppend(&text, " ", NameOf(signature.op));
  absl::StrAppend(&text, " of ", signature.count, " ", NameOf(signature.dtype));
  if (IsRooted(signature.kind)) absl::StrAppend(&text, ", root ", signature.root);
  return text;
}

const Work& Operation::any() const {
  for (const auto& work : works) {
    if (work != nullptr) return *work;
  }
  TUTTI_CHECK(false && "an operation exists because some rank has submitted it");
}

std::string Describe(const Operation& operation) {
  return absl::StrCat(NameOf(operation.any().signature.kind), " #", operation.sequence);
}

}  // namespace tutti
