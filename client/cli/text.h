// Small texts for people: names that are safe to print, numbers, ages, and columns.
//
// Thread-safe: free functions without state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tutti {

// Names come from clients: control characters, direction marks and broken UTF-8 are written as
// escapes, so that they can neither forge lines nor move the cursor.
std::string Escaped(absl::string_view text);

// How many columns a terminal takes for it. REQUIRES: it went through Escaped.
size_t WidthOf(absl::string_view text);

// At most `width` columns, cut between characters, with an ellipsis for what is missing.
// REQUIRES: it went through Escaped, width > 0
std::string Shortened(absl::string_view text, size_t width);
// The same, but what is missing is the beginning: for paths, whose end says most.
std::string ShortenedAtFront(absl::string_view text, size_t width);

// In lines of at most `width` columns, broken at spaces, each with `indent` spaces in front.
std::string Wrapped(absl::string_view text, size_t width, size_t indent);

// "9999", "12.3k", "4.5M": at most six columns.
std::string Count(double value);

// "0 B", "64 KiB", "1.5 GiB".
std::string Bytes(uint64_t bytes);

// "850 ms", "3.2 s", "2m05s", "3h12m", "2d04h": at most seven columns.
std::string Age(uint64_t milliseconds);

// "740 us", "12 ms", "3.2 s".
std::string Microseconds(uint64_t microseconds);

// "0-6, 9"; "none".
std::string Ranks(const std::vector<uint32_t>& ranks);

}  // namespace tutti
