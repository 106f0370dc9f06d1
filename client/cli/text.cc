#include "client/cli/text.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "base/failure.h"

namespace tutti {
namespace {

constexpr char32_t kInvalid = 0xFFFFFFFF;

struct Range {
  char32_t first;
  char32_t last;
};

// Terminals give these two columns (East Asian wide, emoji); the coarse ranges of UAX 11.
constexpr std::array<Range, 11> kWide = {{{0x1100, 0x115F},
                                          {0x2E80, 0x303E},
                                          {0x3041, 0xA4CF},
                                          {0xAC00, 0xD7A3},
                                          {0xF900, 0xFAFF},
                                          {0xFE30, 0xFE6F},
                                          {0xFF00, 0xFF60},
                                          {0xFFE0, 0xFFE6},
                                          {0x1F300, 0x1F64F},
                                          {0x1F900, 0x1F9FF},
                                          {0x20000, 0x3FFFD}}};

// These none: combining marks and variation selectors.
constexpr std::array<Range, 4> kZero = {
    {{0x0300, 0x036F}, {0x1AB0, 0x1AFF}, {0x20D0, 0x20FF}, {0xFE00, 0xFE0F}}};

// These do something to the line that they are in: C0 and C1 controls, marks of direction, breaks,
// zero-width characters.
constexpr std::array<Range, 7> kControl = {{{0x00, 0x1F},
                                            {0x7F, 0x9F},
                                            {0xAD, 0xAD},
                                            {0x200B, 0x200F},
                                            {0x2028, 0x202E},
                                            {0x2060, 0x206F},
                                            {0xFEFF, 0xFEFF}}};

template <size_t n>
bool IsIn(char32_t c, const std::array<Range, n>& ranges) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [c](const Range& range) { return c >= range.first && c <= range.last; });
}

// The character at the front of `text`, whose bytes are counted in `bytes`; kInvalid for a byte
// that begins none (overlong forms and surrogates included).
char32_t Decode(absl::string_view text, size_t* bytes) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  *bytes = 1;
  const unsigned char first = at(0);
  if (first < 0x80) return first;
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return kInvalid;
  char32_t c = first & (0x7F >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xC0) != 0x80) return kInvalid;
    c = (c << 6) | (at(i) & 0x3F);
  }
  constexpr std::array<char32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  if (c < kSmallest[length] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) return kInvalid;
  *bytes = length;
  return c;
}

size_t WidthOf(char32_t c) { return IsIn(c, kZero) ? 0 : IsIn(c, kWide) ? 2 : 1; }

// The value with three significant digits or so: "9.9", "12", "345".
std::string Short(double value) {
  return value < 9.95 ? absl::StrFormat("%.1f", value) : absl::StrFormat("%.0f", value);
}

}  // namespace

std::string Escaped(absl::string_view text) {
  std::string escaped;
  for (size_t bytes = 0; !text.empty(); text.remove_prefix(bytes)) {
    const char32_t c = Decode(text, &bytes);
    if (c == '\n') {
      escaped += "\\n";
    } else if (c == '\\') {
      escaped += "\\\\";
    } else if (c == kInvalid || (c < 0x80 && IsIn(c, kControl))) {
      absl::StrAppendFormat(&escaped, "\\x%02x", static_cast<unsigned char>(text[0]));
    } else if (IsIn(c, kControl)) {
      absl::StrAppendFormat(&escaped, "\\u%04x", static_cast<uint32_t>(c));
    } else {
      escaped.append(text.data(), bytes);
    }
  }
  return escaped;
}

size_t WidthOf(absl::string_view text) {
  size_t width = 0;
  for (size_t bytes = 0; !text.empty(); text.remove_prefix(bytes)) {
    width += WidthOf(Decode(text, &bytes));
  }
  return width;
}

std::string Shortened(absl::string_view text, size_t width) {
  if (WidthOf(text) <= width) return std::string(text);
  std::string cut;
  size_t used = 1;  // the ellipsis
  for (size_t bytes = 0; !text.empty(); text.remove_prefix(bytes)) {
    const char32_t c = Decode(text, &bytes);
    if (used + WidthOf(c) > width) break;
    used += WidthOf(c);
    cut.append(text.data(), bytes);
  }
  return cut + "…";
}

std::string ShortenedAtFront(absl::string_view text, size_t width) {
  if (WidthOf(text) <= width) return std::string(text);
  while (1 + WidthOf(text) > width) {
    size_t bytes = 0;
    Decode(text, &bytes);
    text.remove_prefix(bytes);
  }
  return absl::StrCat("…", text);
}

std::string Wrapped(absl::string_view text, size_t width, size_t indent) {
  const std::string margin(indent, ' ');
  std::string wrapped;
  std::string line;
  for (absl::string_view word : absl::StrSplit(text, ' ')) {
    if (!line.empty() && indent + WidthOf(line) + 1 + WidthOf(word) > width) {
      absl::StrAppend(&wrapped, margin, line, "\n");
      line.clear();
    }
    absl::StrAppend(&line, line.empty() ? "" : " ", word);
    // A word alone that is too long is cut where the line ends.
    while (indent + WidthOf(line) > width) {
      std::string head = Shortened(line, width - indent + 1);
      head.resize(head.size() - std::string("…").size());
      absl::StrAppend(&wrapped, margin, head, "\n");
      line.erase(0, head.size());
    }
  }
  return absl::StrCat(wrapped, margin, line, "\n");
}

std::string Count(double value) {
  if (value < 9.95 && value != static_cast<double>(static_cast<uint64_t>(value))) {
    return absl::StrFormat("%.1f", value);
  }
  if (value < 9999.5) return absl::StrFormat("%.0f", value);
  constexpr std::array<const char*, 6> kUnits = {"k", "M", "G", "T", "P", "E"};
  size_t unit = 0;
  for (value /= 1000; value >= 999.5 && unit + 1 < kUnits.size(); ++unit) value /= 1000;
  return absl::StrCat(Short(value), kUnits[unit]);
}

std::string Bytes(uint64_t bytes) {
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  constexpr std::array<const char*, 6> kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; value >= 1023.5 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  const bool whole = value == static_cast<double>(static_cast<uint64_t>(value));
  return absl::StrCat(whole ? absl::StrFormat("%.0f", value) : Short(value), " ", kUnits[unit]);
}

std::string Age(uint64_t milliseconds) {
  if (milliseconds < 1000) return absl::StrCat(milliseconds, " ms");
  const uint64_t seconds = milliseconds / 1000;
  if (seconds < 60) {
    return absl::StrFormat("%d.%d s", seconds, milliseconds % 1000 / 100);
  }
  const uint64_t minutes = seconds / 60;
  if (minutes < 60) return absl::StrFormat("%dm%02ds", minutes, seconds % 60);
  const uint64_t hours = minutes / 60;
  if (hours < 24) return absl::StrFormat("%dh%02dm", hours, minutes % 60);
  return absl::StrFormat("%dd%02dh", hours / 24, hours % 24);
}

std::string Microseconds(uint64_t microseconds) {
  if (microseconds < 1000) return absl::StrCat(microseconds, " us");
  if (microseconds < 10000) {
    return absl::StrFormat("%d.%d ms", microseconds / 1000, microseconds % 1000 / 100);
  }
  return Age(microseconds / 1000);
}

std::string Ranks(const std::vector<uint32_t>& ranks) {
  if (ranks.empty()) return "none";
  const std::string described = DescribeRanks(ranks);
  return described.substr(described.find(' ') + 1);
}

}  // namespace tutti
