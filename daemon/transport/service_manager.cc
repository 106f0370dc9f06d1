#include "daemon/transport/service_manager.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "base/log.h"
#include "base/unique_fd.h"

namespace tutti {

void NotifyServiceManager(const std::string& socket, const std::string& state) {
  sockaddr_un address{};
  if (socket.empty() || socket.size() >= sizeof(address.sun_path)) return;
  address.sun_family = AF_UNIX;
  socket.copy(address.sun_path, socket.size());
  if (socket.front() == '@') address.sun_path[0] = '\0';
  const UniqueFd sender(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket.size());
  const ssize_t sent = sendto(sender.get(), state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                              reinterpret_cast<const sockaddr*>(&address), size);
  if (sent < 0) {
    LogWarning("notify.failed socket={} state={} error={}", Quoted(socket), Quoted(state),
               Quoted(std::strerror(errno)));
  }
}

}  // namespace tutti
