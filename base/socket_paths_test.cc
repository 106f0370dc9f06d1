#include "base/socket_paths.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace tutti {
namespace {

TEST_CASE("the argument wins over the environment") {
  setenv("TUTTI_SOCKET_DIR", "/from/environment", 1);
  CHECK(*ResolveSocketDir("/given") == "/given");
  CHECK(*ResolveSocketDir("") == "/from/environment");
  unsetenv("TUTTI_SOCKET_DIR");
}

TEST_CASE("without both it depends on the user") {
  unsetenv("TUTTI_SOCKET_DIR");
  if (geteuid() == 0) {
    CHECK(*ResolveSocketDir("") == "/run/tutti");
    return;
  }
  setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
  CHECK(*ResolveSocketDir("") == "/run/user/7/tutti");
  unsetenv("XDG_RUNTIME_DIR");
  CHECK(ResolveSocketDir("").status().code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("the result is absolute and clean") {
  std::filesystem::current_path("/tmp");  // where Bazel runs tests, paths are too long
  CHECK(*ResolveSocketDir("sockets/../s/") == "/tmp/s");
  CHECK(*ResolveSocketDir("/a//b/./c/") == "/a/b/c");
}

TEST_CASE("a path that leaves no room for a socket's name is refused") {
  const std::string fits(107 - std::string("/session.sock").size() - 1, 'a');
  CHECK(ResolveSocketDir("/" + fits).ok());
  CHECK(SessionSocketPath(*ResolveSocketDir("/" + fits)).size() == 107);
  CHECK(ResolveSocketDir("/" + fits + "a").status().code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("gRPC's target is quoted as a URI") {
  CHECK(GrpcTarget("/run/tutti/grpc.sock") == "unix:/run/tutti/grpc.sock");
  CHECK(GrpcTarget("/a b/100%/ä#?/g.sock") == "unix:/a%20b/100%25/%C3%A4%23%3F/g.sock");
}

}  // namespace
}  // namespace tutti
