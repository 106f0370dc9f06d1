#include "client/cli/table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "client/cli/text.h"

namespace tutti {
namespace {

// However narrow the terminal: enough to recognise a name.
constexpr size_t kFlexibleWidthMin = 8;

const char* CodeOf(Color color) {
  switch (color) {
    case Color::kNone:
      return "";
    case Color::kGood:
      return "32";
    case Color::kWarning:
      return "33";
    case Color::kBad:
      return "1;31";
    case Color::kDim:
      return "2";
  }
  return "";
}

}  // namespace

std::string Colored(const std::string& text, Color color, bool enabled) {
  if (!enabled || color == Color::kNone) return text;
  return absl::StrCat("\x1b[", CodeOf(color), "m", text, "\x1b[0m");
}

void Table::AddColumn(std::string name, Align align) {
  columns_.push_back(Column{std::move(name), align});
}

void Table::AddRow(std::vector<Cell> row) {
  TUTTI_CHECK(row.size() == columns_.size());
  rows_.push_back(std::move(row));
}

std::string Table::Render(bool color) const {
  const std::vector<size_t> widths = Widths();
  std::string text;
  const auto append = [&](const std::vector<Cell>& row) {
    std::string line;
    size_t pending = 0;  // blanks that are only written if something follows
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string cell = row[i].keep_end ? ShortenedAtFront(row[i].text, widths[i])
                                               : Shortened(row[i].text, widths[i]);
      const size_t pad = widths[i] - WidthOf(cell);
      if (columns_[i].align == Align::kRight) pending += pad;
      if (!cell.empty()) {
        absl::StrAppend(&line, std::string(pending, ' '), Colored(cell, row[i].color, color));
        pending = 0;
      }
      if (columns_[i].align == Align::kLeft) pending += pad;
      ++pending;
    }
    absl::StrAppend(&text, line, "\n");
  };
  std::vector<Cell> header;
  for (const Column& column : columns_) header.push_back(Cell{column.name, Color::kDim});
  append(header);
  for (const std::vector<Cell>& row : rows_) append(row);
  return text;
}

std::vector<size_t> Table::Widths() const {
  std::vector<size_t> widths;
  size_t total = columns_.size() - 1;  // one blank between columns
  for (size_t i = 0; i < columns_.size(); ++i) {
    size_t width = WidthOf(columns_[i].name);
    for (const std::vector<Cell>& row : rows_) width = std::max(width, WidthOf(row[i].text));
    widths.push_back(width);
    total += width;
  }
  if (total > width_) {
    size_t& flexible = widths[flexible_];
    const size_t rest = total - flexible;
    flexible = std::min(flexible, std::max(kFlexibleWidthMin, width_ > rest ? width_ - rest : 0));
  }
  return widths;
}

}  // namespace tutti
