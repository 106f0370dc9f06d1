// The words of a command to a rank under test.
//
// Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/time/time.h"

namespace tutti {

using Words = std::vector<std::string>;

// 0 if it is none.
inline uint64_t Number(const std::string& text) {
  uint64_t number = 0;
  return absl::SimpleAtoi(text, &number) ? number : 0;
}

// The word at `index` in milliseconds; zero if there is none.
inline absl::Duration TimeoutAt(const Words& words, size_t index) {
  return absl::Milliseconds(index < words.size() ? Number(words[index]) : 0);
}

// The enumerator with this name, as NameOf gives it; kNone if there is none.
template <typename Enum>
Enum Named(const std::string& name, Enum last) {
  for (int number = 1; number <= static_cast<int>(last); ++number) {
    if (NameOf(static_cast<Enum>(number)) == name) return static_cast<Enum>(number);
  }
  return Enum::kNone;
}

}  // namespace tutti
