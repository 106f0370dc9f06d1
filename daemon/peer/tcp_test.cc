#include "daemon/peer/tcp.h"

#include <catch2/catch.hpp>
#include <string>

namespace tutti {
namespace {

TEST_CASE("addresses are host and port; IPv6 is in brackets") {
  const auto parsed = [](const std::string& text) {
    const absl::StatusOr<HostPort> address = ParseHostPort(text);
    REQUIRE(address.ok());
    CHECK(FormatHostPort(*address) == text);
    return *address;
  };
  CHECK(parsed("10.0.0.7:7411") == HostPort{"10.0.0.7", 7411});
  CHECK(parsed("node-7.cluster.local:0") == HostPort{"node-7.cluster.local", 0});
  CHECK(parsed("[fd00::7]:65535") == HostPort{"fd00::7", 65535});
  CHECK(parsed(":7411") == HostPort{"", 7411});
}

TEST_CASE("what is no address is refused, with examples") {
  for (const char* text : {"", "10.0.0.7", "10.0.0.7:", "10.0.0.7:x", "10.0.0.7:65536", "a:-1",
                           "fd00::7:7411", "[10.0.0.7]:1", "[]:1", "http://a:1", "a b:1", "a: 1"}) {
    INFO(text);
    const absl::StatusOr<HostPort> address = ParseHostPort(text);
    CHECK(absl::IsInvalidArgument(address.status()));
    CHECK(address.status().message().find("is no address such as 10.0.0.7:7411") !=
          absl::string_view::npos);
  }
}

TEST_CASE("one cannot reach what is only good to listen on") {
  for (const char* host : {"", "0.0.0.0", "::"}) CHECK(IsWildcard(host));
  for (const char* host : {"10.0.0.0", "::1", "node"}) CHECK_FALSE(IsWildcard(host));
}

TEST_CASE("gRPC's names of addresses") {
  CHECK(GrpcAddress("node7:7411") == "dns:///node7:7411");
  CHECK(GrpcAddress("10.0.0.7:7411") == "dns:///10.0.0.7:7411");
  CHECK(GrpcAddress("[fd00::7]:7411") == "ipv6:%5Bfd00::7%5D:7411");
}

TEST_CASE("the kernel chooses a port, or takes the one that is said; each once") {
  absl::StatusOr<ListeningSocket> first = ListenTcp({.host = "127.0.0.1", .port = 0});
  REQUIRE(first.ok());
  CHECK(first->port != 0);
  const auto second = ListenTcp({.host = "127.0.0.1", .port = first->port});
  CHECK(absl::IsUnavailable(second.status()));
  CHECK(std::string(second.status().message()).find("bind: Address already in use") !=
        std::string::npos);
  first->socket.Reset();
  CHECK(ListenTcp({.host = "127.0.0.1", .port = first->port}).ok());
  CHECK(ListenTcp({.host = "", .port = 0}).ok());
}

TEST_CASE("a host that there is not cannot be listened on") {
  const auto none = ListenTcp({.host = "203.0.113.77", .port = 0});
  CHECK(absl::IsUnavailable(none.status()));
}

TEST_CASE("the own address is the one on the way to the other") {
  CHECK(LocalHostToward("ipv4:127.0.0.1:7411") == "127.0.0.1");
  for (const char* peer : {"", "unix:/x", "ipv4:nonsense", "ipv4:127.0.0.1"}) {
    CHECK(LocalHostToward(peer).empty());
  }
}

}  // namespace
}  // namespace tutti
