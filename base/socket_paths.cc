#include "base/socket_paths.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tutti {
namespace {

// What sockaddr_un holds, without the final zero.
constexpr size_t kSocketPathBytesMax = 107;

std::string FromEnvironment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool IsPlainInUri(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '/' ||
         c == '-' || c == '.' || c == '_' || c == '~';
}

}  // namespace

absl::StatusOr<std::string> ResolveSocketDir(const std::string& given) {
  std::string dir = given.empty() ? FromEnvironment("TUTTI_SOCKET_DIR") : given;
  if (dir.empty() && geteuid() == 0) dir = "/run/tutti";
  if (dir.empty()) {
    const std::string runtime = FromEnvironment("XDG_RUNTIME_DIR");
    if (runtime.empty()) {
      return absl::FailedPreconditionError(
          "can't tell where the daemon's sockets are: XDG_RUNTIME_DIR is not set. Set "
          "TUTTI_SOCKET_DIR to the directory that tuttid was started with (--socket_dir)");
    }
    dir = absl::StrCat(runtime, "/tutti");
  }
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(dir, error);
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat("the current directory is gone, and ", dir, " is relative to it"));
  }
  dir = absolute.lexically_normal().string();
  while (dir.size() > 1 && dir.back() == '/') dir.pop_back();
  const size_t bytes = SessionSocketPath(dir).size();
  if (bytes > kSocketPathBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        dir, " is too long for a directory of Unix sockets: with /session.sock it has ", bytes,
        " bytes, and the kernel takes ", kSocketPathBytesMax));
  }
  return dir;
}

std::string SessionSocketPath(const std::string& socket_dir) {
  return absl::StrCat(socket_dir, "/session.sock");
}

std::string ClientSocketPath(const std::string& socket_dir) {
  return absl::StrCat(socket_dir, "/grpc.sock");
}

std::string AdminSocketPath(const std::string& socket_dir) {
  return absl::StrCat(socket_dir, "/admin.sock");
}

std::string GrpcTarget(const std::string& socket_path) {
  std::string target = "unix:";
  for (const char c : socket_path) {
    if (IsPlainInUri(c)) {
      target.push_back(c);
    } else {
      absl::StrAppendFormat(&target, "%%%02X", static_cast<unsigned char>(c));
    }
  }
  return target;
}

}  // namespace tutti
