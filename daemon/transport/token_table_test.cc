#include "daemon/transport/token_table.h"

#include <catch2/catch.hpp>
#include <cstring>

namespace tutti {
namespace {

// Fills with 1, 2, 3...: the n-th token is n, 32 times.
struct Counting {
  void operator()(void* bytes, size_t size) { std::memset(bytes, ++calls, size); }
  int calls = 0;
};

TEST_CASE("a token is found until it is revoked, and only whole") {
  TokenTable tokens{Counting()};
  const std::string first = tokens.Issue(7);
  const std::string second = tokens.Issue(8);
  REQUIRE(first.size() == TokenTable::kTokenBytes);
  CHECK(first != second);
  CHECK(tokens.Find(first) == SessionId{7});
  CHECK(tokens.Find(second) == SessionId{8});

  for (size_t i = 0; i < first.size(); ++i) {
    std::string wrong = first;
    wrong[i] = static_cast<char>(wrong[i] ^ 1);
    CHECK_FALSE(tokens.Find(wrong).has_value());
  }
  CHECK_FALSE(tokens.Find("").has_value());
  CHECK_FALSE(tokens.Find(first.substr(1)).has_value());
  CHECK_FALSE(tokens.Find(first + "x").has_value());

  tokens.Revoke(7);
  tokens.Revoke(7);
  CHECK_FALSE(tokens.Find(first).has_value());
  CHECK(tokens.Find(second) == SessionId{8});
}

TEST_CASE("tokens that would be looked up by the same bytes are drawn again") {
  int calls = 0;
  TokenTable tokens([&calls](void* bytes, size_t size) {
    ++calls;
    std::memset(bytes, calls < 3 ? 1 : 2, size);
  });
  const std::string first = tokens.Issue(1);
  const std::string second = tokens.Issue(2);
  CHECK(calls == 3);
  CHECK(tokens.Find(first) == SessionId{1});
  CHECK(tokens.Find(second) == SessionId{2});
}

}  // namespace
}  // namespace tutti
