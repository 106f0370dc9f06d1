#include "client/cli/table.h"

#include <catch2/catch.hpp>

#include "client/cli/text.h"

namespace tutti {
namespace {

Table Sample(size_t width) {
  Table table(width, 0);
  table.AddColumn("NAME", Table::Align::kLeft);
  table.AddColumn("N", Table::Align::kRight);
  table.AddColumn("NOTE", Table::Align::kLeft);
  table.AddRow({Cell{"a"}, Cell{"1"}, Cell{""}});
  table.AddRow({Cell{"a-long-name"}, Cell{"1000"}, Cell{"x", Color::kBad}});
  return table;
}

TEST_CASE("columns are as wide as what they hold, without trailing blanks") {
  CHECK(Sample(80).Render(false) ==
        "NAME           N NOTE\n"
        "a              1\n"
        "a-long-name 1000 x\n");
}

TEST_CASE("the flexible column gives way, but keeps eight columns") {
  CHECK(Sample(19).Render(false) ==
        "NAME         N NOTE\n"
        "a            1\n"
        "a-long-n… 1000 x\n");
  CHECK(Sample(5).Render(false) ==
        "NAME        N NOTE\n"
        "a           1\n"
        "a-long-… 1000 x\n");
}

TEST_CASE("wide characters keep columns straight") {
  Table table(80, 0);
  table.AddColumn("NAME", Table::Align::kLeft);
  table.AddColumn("N", Table::Align::kRight);
  table.AddRow({Cell{"日本"}, Cell{"1"}});
  table.AddRow({Cell{"abcd"}, Cell{"2"}});
  CHECK(table.Render(false) == "NAME N\n日本 1\nabcd 2\n");
}

TEST_CASE("colours only if asked for, and without effect on the columns") {
  CHECK(Colored("x", Color::kBad, false) == "x");
  CHECK(Colored("x", Color::kNone, true) == "x");
  CHECK(Colored("x", Color::kBad, true) == "\x1b[1;31mx\x1b[0m");
  const std::string text = Sample(80).Render(true);
  CHECK(text.find("a-long-name 1000 \x1b[1;31mx\x1b[0m\n") != std::string::npos);
}

}  // namespace
}  // namespace tutti
