#include "daemon/transport/token_table.h"

#include <utility>

#include "base/check.h"

namespace tutti {
namespace {

constexpr size_t kKeyBytes = 8;

// Looks at every byte whatever it finds. REQUIRES: equal sizes
bool EqualInConstantTime(std::string_view a, std::string_view b) {
  unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]);
    // Keeps the compiler from leaving the loop early.
    asm volatile("" : "+r"(difference));
  }
  return difference == 0;
}

}  // namespace

TokenTable::TokenTable(std::function<void(void* bytes, size_t size)> random)
    : random_(std::move(random)) {}

std::string TokenTable::Issue(SessionId session) {
  TUTTI_CHECK(keys_.find(session) == keys_.end());
  std::string token(kTokenBytes, '\0');
  std::string key;
  do {
    random_(token.data(), token.size());
    key = token.substr(0, kKeyBytes);
  } while (entries_.find(key) != entries_.end());
  entries_[key] = {token, session};
  keys_[session] = std::move(key);
  return token;
}

void TokenTable::Revoke(SessionId session) {
  const auto found = keys_.find(session);
  if (found == keys_.end()) return;
  entries_.erase(found->second);
  keys_.erase(found);
}

std::optional<SessionId> TokenTable::Find(std::string_view token) const {
  if (token.size() != kTokenBytes) return std::nullopt;
  const auto found = entries_.find(std::string(token.substr(0, kKeyBytes)));
  if (found == entries_.end()) return std::nullopt;
  if (!EqualInConstantTime(found->second.token, token)) return std::nullopt;
  return found->second.session;
}

}  // namespace tutti
