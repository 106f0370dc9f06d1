#include "client/cli/text.h"

#include <catch2/catch.hpp>

namespace tutti {
namespace {

TEST_CASE("names can't forge lines or move the cursor") {
  CHECK(Escaped("plain-name_1") == "plain-name_1");
  CHECK(Escaped("ünïcode 日本") == "ünïcode 日本");
  CHECK(Escaped("a\nb") == "a\\nb");
  CHECK(Escaped("a\\nb") == "a\\\\nb");
  CHECK(Escaped("\x1b[2J\r\t\x7f") == "\\x1b[2J\\x0d\\x09\\x7f");
  CHECK(Escaped("\u009b31m") == "\\u009b31m");          // C1: CSI in one character
  CHECK(Escaped("\u202egnp.exe") == "\\u202egnp.exe");  // right to left
  CHECK(Escaped("a\u200bb\ufeff") == "a\\u200bb\\ufeff");
}

TEST_CASE("broken UTF-8 is shown byte by byte") {
  CHECK(Escaped("a\xff z") == "a\\xff z");
  CHECK(Escaped("\xc3") == "\\xc3");                    // cut short
  CHECK(Escaped("\xc0\xaf") == "\\xc0\\xaf");           // overlong
  CHECK(Escaped("\xed\xa0\x80") == "\\xed\\xa0\\x80");  // a surrogate
  CHECK(Escaped("\xf5\x80\x80\x80") == "\\xf5\\x80\\x80\\x80");
}

TEST_CASE("widths are those of a terminal") {
  CHECK(WidthOf("abc") == 3);
  CHECK(WidthOf("äöü") == 3);
  CHECK(WidthOf("日本") == 4);
  CHECK(WidthOf("e\u0301") == 1);
}

TEST_CASE("texts are cut between characters, with an ellipsis") {
  CHECK(Shortened("short", 5) == "short");
  CHECK(Shortened("longer", 5) == "long…");
  CHECK(Shortened("ääää", 3) == "ää…");
  CHECK(Shortened("日本語", 4) == "日…");
  CHECK(Shortened("日本語", 6) == "日本語");
  CHECK(Shortened("abc", 1) == "…");
  CHECK(ShortenedAtFront("short", 5) == "short");
  CHECK(ShortenedAtFront("longer", 5) == "…nger");
  CHECK(ShortenedAtFront("日本語", 4) == "…語");
  CHECK(ShortenedAtFront("abc", 1) == "…");
}

TEST_CASE("long texts are wrapped at blanks, and words that are too long are cut") {
  CHECK(Wrapped("one two three", 11, 2) == "  one two\n  three\n");
  CHECK(Wrapped("one two three", 80, 0) == "one two three\n");
  CHECK(Wrapped("abcdefghij k", 6, 2) == "  abcd\n  efgh\n  ij k\n");
  CHECK(Wrapped("日本語日本語", 4, 0) == "日本\n語日\n本語\n");
  CHECK(Wrapped("", 10, 2) == "  \n");
}

TEST_CASE("counts fit six columns") {
  CHECK(Count(0) == "0");
  CHECK(Count(1.25) == "1.2");
  CHECK(Count(7) == "7");
  CHECK(Count(12.6) == "13");
  CHECK(Count(9999) == "9999");
  CHECK(Count(9999.6) == "10k");
  CHECK(Count(123456) == "123k");
  CHECK(Count(999600) == "1.0M");
  CHECK(Count(2.5e9) == "2.5G");
  for (double value = 0.01; value < 1e19; value *= 1.7) CHECK(WidthOf(Count(value)) <= 6);
}

TEST_CASE("bytes in binary units") {
  CHECK(Bytes(0) == "0 B");
  CHECK(Bytes(1023) == "1023 B");
  CHECK(Bytes(64 << 10) == "64 KiB");
  CHECK(Bytes(1536) == "1.5 KiB");
  CHECK(Bytes(uint64_t{256} << 20) == "256 MiB");
  CHECK(Bytes((uint64_t{1} << 30) - 1) == "1.0 GiB");
  CHECK(Bytes(UINT64_MAX) == "16 EiB");
}

TEST_CASE("ages fit seven columns") {
  CHECK(Age(0) == "0 ms");
  CHECK(Age(999) == "999 ms");
  CHECK(Age(3250) == "3.2 s");
  CHECK(Age(59999) == "59.9 s");
  CHECK(Age(125'000) == "2m05s");
  CHECK(Age(11'520'000) == "3h12m");
  CHECK(Age(187'200'000) == "2d04h");
  for (uint64_t ms = 1; ms < 10'000'000'000; ms = ms * 2 + 1) CHECK(Age(ms).size() <= 7);
  CHECK(Microseconds(740) == "740 us");
  CHECK(Microseconds(4250) == "4.2 ms");
  CHECK(Microseconds(12'345) == "12 ms");
}

TEST_CASE("ranks as ranges") {
  CHECK(Ranks({}) == "none");
  CHECK(Ranks({3}) == "3");
  CHECK(Ranks({0, 1, 2, 9}) == "0-2, 9");
}

}  // namespace
}  // namespace tutti
