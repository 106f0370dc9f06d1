#include "daemon/transport/socket_directory.h"

#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "shm/packet.h"

namespace tutti {
namespace {

namespace fs = std::filesystem;

class Scratch {
 public:
  Scratch() {
    std::string name = "/tmp/tutti-dir-XXXXXX";
    path_ = mkdtemp(name.data());
  }
  ~Scratch() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

mode_t ModeOf(const std::string& path) {
  struct stat info {};
  return lstat(path.c_str(), &info) == 0 ? info.st_mode & 07777 : 0;
}

TEST_CASE("the directory is made with its mode whatever the umask, its parents are not") {
  const Scratch scratch;
  const mode_t before = umask(0777);
  const auto directory = SocketDirectory::Open(scratch / "run");
  umask(before);
  REQUIRE(directory.ok());
  CHECK(ModeOf(scratch / "run") == 0750);
  CHECK(directory->path() == scratch / "run");

  const auto missing = SocketDirectory::Open(scratch / "no/run");
  CHECK(absl::IsNotFound(missing.status()));
  std::ofstream(scratch / "file") << "x";
  CHECK(absl::IsFailedPrecondition(SocketDirectory::Open(scratch / "file").status()));
}

TEST_CASE("a second daemon is told who holds the lock, and touches nothing") {
  const Scratch scratch;
  std::optional<SocketDirectory> first(*SocketDirectory::Open(scratch / "run"));
  const auto socket = first->ListenPacket(scratch / "run/session.sock", 0660);
  REQUIRE(socket.ok());

  const auto second = SocketDirectory::Open(scratch / "run");
  REQUIRE(absl::IsAlreadyExists(second.status()));
  const std::string message(second.status().message());
  CHECK(message.find("pid " + std::to_string(getpid())) != std::string::npos);
  CHECK(message.find("version ") != std::string::npos);
  CHECK(message.find(scratch / "run/tuttid.lock") != std::string::npos);
  CHECK(ConnectPacketSocket(scratch / "run/session.sock").ok());

  first.reset();
  CHECK(SocketDirectory::Open(scratch / "run").ok());
}

TEST_CASE("sockets have their modes, replace stale ones, and go with the directory") {
  const Scratch scratch;
  const std::string path = scratch / "run/session.sock";
  {
    auto directory = SocketDirectory::Open(scratch / "run");
    REQUIRE(directory.ok());
    // As after a crash: a file that nobody listens on.
    REQUIRE(ListenPacketSocket(path, 0600).ok());
    REQUIRE(fs::exists(path));
    const auto session = directory->ListenPacket(path, 0660);
    REQUIRE(session.ok());
    const auto admin = directory->ListenStream(scratch / "run/admin.sock", 0600);
    REQUIRE(admin.ok());
    CHECK(ModeOf(path) == 0660);
    CHECK(ModeOf(scratch / "run/admin.sock") == 0600);
    CHECK(ConnectPacketSocket(path).ok());
  }
  CHECK_FALSE(fs::exists(path));
  CHECK_FALSE(fs::exists(scratch / "run/admin.sock"));
  CHECK(fs::exists(scratch / "run/tuttid.lock"));
}

TEST_CASE("a socket that somebody else has put in its place stays") {
  const Scratch scratch;
  const std::string path = scratch / "run/session.sock";
  absl::StatusOr<UniqueFd> other;
  {
    auto directory = SocketDirectory::Open(scratch / "run");
    REQUIRE(directory.ok());
    const auto session = directory->ListenPacket(path, 0660);
    REQUIRE(session.ok());
    other = ListenPacketSocket(path, 0600);
    REQUIRE(other.ok());
  }
  CHECK(fs::exists(path));
  CHECK(ConnectPacketSocket(path).ok());
}

TEST_CASE("what is no socket is not replaced") {
  const Scratch scratch;
  auto directory = SocketDirectory::Open(scratch / "run");
  REQUIRE(directory.ok());
  std::ofstream(scratch / "run/session.sock") << "precious";
  CHECK(
      absl::IsAlreadyExists(directory->ListenPacket(scratch / "run/session.sock", 0660).status()));
  CHECK(fs::file_size(scratch / "run/session.sock") == 8);
}

}  // namespace
}  // namespace tutti
