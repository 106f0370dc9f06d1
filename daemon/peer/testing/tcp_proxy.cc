#include "daemon/peer/testing/tcp_proxy.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "daemon/peer/tcp.h"

namespace tutti {
namespace {

UniqueFd Connect(uint16_t port) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int failed = connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address));
  return failed == 0 ? std::move(fd) : UniqueFd();
}

}  // namespace

TcpProxy::TcpProxy(uint16_t port) : target_(port) {
  auto listening = ListenTcp({.host = "127.0.0.1", .port = 0});
  TUTTI_CHECK(listening.ok());
  listening_ = std::move(listening->socket);
  port_ = listening->port;
  wake_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  thread_.emplace("proxy", [this] { Run(); });
}

TcpProxy::~TcpProxy() {
  stop_ = true;
  Wake();
  thread_.reset();
}

std::string TcpProxy::address() const { return absl::StrCat("127.0.0.1:", port_); }

void TcpProxy::Freeze() {
  frozen_ = true;
  Wake();
}

void TcpProxy::Cut() {
  cut_ = true;
  Wake();
}

void TcpProxy::Wake() {
  const uint64_t one = 1;
  TUTTI_CHECK(write(wake_.get(), &one, sizeof(one)) == sizeof(one));
}

void TcpProxy::Run() {
  while (Turn()) {
  }
}

bool TcpProxy::Turn() {
  std::vector<pollfd> waits = {{wake_.get(), POLLIN, 0}};
  if (!frozen_) {
    waits.push_back({listening_.get(), POLLIN, 0});
    for (const Wire& wire : wires_) {
      for (const UniqueFd& end : wire.ends) waits.push_back({end.get(), POLLIN, 0});
    }
  }
  if (poll(waits.data(), waits.size(), -1) < 0) return false;
  if (stop_) return false;
  uint64_t count = 0;
  if (waits[0].revents != 0) (void)!read(wake_.get(), &count, sizeof(count));
  if (cut_.exchange(false)) {
    wires_.clear();
    return true;
  }
  for (size_t i = 2; i < waits.size(); ++i) {
    if (waits[i].revents == 0) continue;
    if (Forward(wires_[(i - 2) / 2], static_cast<int>((i - 2) % 2))) continue;
    wires_.erase(wires_.begin() + static_cast<std::ptrdiff_t>((i - 2) / 2));
    return true;
  }
  if (waits.size() > 1 && waits[1].revents != 0) Accept();
  return true;
}

void TcpProxy::Accept() {
  Wire wire;
  wire.ends[0].Reset(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  wire.ends[1] = Connect(target_);
  if (wire.ends[0].valid() && wire.ends[1].valid()) wires_.push_back(std::move(wire));
}

bool TcpProxy::Forward(const Wire& wire, int from) {
  std::array<char, 65536> bytes;
  const ssize_t size = recv(wire.ends[from].get(), bytes.data(), bytes.size(), 0);
  if (size <= 0) return false;
  const ssize_t sent =
      send(wire.ends[1 - from].get(), bytes.data(), static_cast<size_t>(size), MSG_NOSIGNAL);
  return sent == size;
}

}  // namespace tutti
