#include "tests/harness/json.h"

#include <catch2/catch.hpp>

namespace tutti {
namespace {

TEST_CASE("an object of every type is one line of JSON") {
  JsonObject object;
  object.Add("ok", true).Add("n", uint64_t{18446744073709551615u}).Add("m", int64_t{-3});
  object.Add("text", "a \"b\" \\ \n\x01 ä").Add("ranks", std::vector<uint32_t>{1, 22});
  CHECK(object.ToString() ==
        R"({"ok":true,"n":18446744073709551615,"m":-3,"text":"a \"b\" \\ \u000a\u0001 ä",)"
        R"("ranks":[1,22]})");
}

TEST_CASE("numbers are exact, or null") {
  CHECK(JsonObject().Add("v", std::vector<double>{1, -0.5, 1e300 * 1e300, 1e22}).ToString() ==
        R"({"v":[1,-0.5,null,1e+22]})");
}

TEST_CASE("an empty object and an empty list") {
  CHECK(JsonObject().ToString() == "{}");
  CHECK(JsonObject().Add("r", std::vector<uint32_t>{}).ToString() == R"({"r":[]})");
}

}  // namespace
}  // namespace tutti
