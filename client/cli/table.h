// A table in text: columns as wide as what they hold, one of them giving way so that the lines fit.
//
// Not thread-safe; a value.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace tutti {

// The few colours that mean something. What they look like is the terminal's affair.
enum class Color { kNone, kGood, kWarning, kBad, kDim };

// `text` in that colour, if `enabled`.
std::string Colored(const std::string& text, Color color, bool enabled);

struct Cell {
  // Escaped already, or ours.
  std::string text;
  Color color = Color::kNone;
  // Of the two ends, the one that stays if it is too wide.
  bool keep_end = false;
};

class Table {
 public:
  enum class Align { kLeft, kRight };

  // The column `flexible` is shortened where lines would be wider than `width`.
  Table(size_t width, size_t flexible) : width_(width), flexible_(flexible) {}

  void AddColumn(std::string name, Align align);
  // REQUIRES: one cell per column
  void AddRow(std::vector<Cell> row);

  // The header and the rows, each with an end of line and without trailing blanks.
  std::string Render(bool color) const;

 private:
  struct Column {
    std::string name;
    Align align = Align::kLeft;
  };

  std::vector<size_t> Widths() const;

  const size_t width_;
  const size_t flexible_;
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace tutti
