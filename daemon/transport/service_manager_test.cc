#include "daemon/transport/service_manager.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <string>

#include "base/unique_fd.h"

namespace tutti {
namespace {

UniqueFd Bind(const std::string& name) {
  UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  name.copy(address.sun_path, name.size());
  if (name.front() == '@') address.sun_path[0] = '\0';
  REQUIRE(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address),
               static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size())) == 0);
  return fd;
}

std::string Receive(const UniqueFd& fd) {
  std::array<char, 64> text{};
  const ssize_t size = recv(fd.get(), text.data(), text.size(), MSG_DONTWAIT);
  return size < 0 ? "" : std::string(text.data(), static_cast<size_t>(size));
}

TEST_CASE("the manager is told, by path or by abstract name") {
  const std::string pid = std::to_string(getpid());
  for (const std::string& name : {"/tmp/tutti-notify-" + pid, "@tutti-notify-" + pid}) {
    const UniqueFd manager = Bind(name);
    NotifyServiceManager(name, "READY=1");
    CHECK(Receive(manager) == "READY=1");
    unlink(name.c_str());
  }
}

TEST_CASE("without a manager nothing happens") {
  NotifyServiceManager("", "READY=1");
  NotifyServiceManager("/tmp/tutti-nobody-listens", "READY=1");
  NotifyServiceManager(std::string(200, 'x'), "READY=1");
}

}  // namespace
}  // namespace tutti
