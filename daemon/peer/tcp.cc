#include "daemon/peer/tcp.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace tutti {
namespace {

// Some hundred daemons may dial at once, after the restart of the seed.
constexpr int kBacklog = 512;

using AddressList = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

absl::StatusOr<AddressList> LookUp(const HostPort& address, int type, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = type;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(address.host.empty() ? nullptr : address.host.c_str(),
                                absl::StrCat(address.port).c_str(), &hints, &found);
  if (error != 0) {
    return absl::UnavailableError(absl::StrCat(address.host, ": ", gai_strerror(error)));
  }
  return AddressList(found, &freeaddrinfo);
}

absl::Status Problem(const char* call) {
  return absl::UnavailableError(absl::StrCat(call, ": ", std::strerror(errno)));
}

// With its port; the host as a number.
absl::StatusOr<HostPort> NameOf(int socket) {
  sockaddr_storage name{};
  socklen_t size = sizeof(name);
  auto* const address = reinterpret_cast<sockaddr*>(&name);
  if (getsockname(socket, address, &size) != 0) return Problem("getsockname");
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  const int error = getnameinfo(address, size, host.data(), host.size(), port.data(), port.size(),
                                NI_NUMERICHOST | NI_NUMERICSERV);
  HostPort found{.host = host.data()};
  uint32_t number = 0;
  if (error != 0 || !absl::SimpleAtoi(port.data(), &number)) return Problem("getnameinfo");
  found.port = static_cast<uint16_t>(number);
  return found;
}

absl::StatusOr<ListeningSocket> Listen(const addrinfo& where) {
  const int type = where.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK;
  UniqueFd fd(socket(where.ai_family, type, where.ai_protocol));
  if (!fd.valid()) return Problem("socket");
  const auto set = [&fd](int level, int option, int value) {
    return setsockopt(fd.get(), level, option, &value, sizeof(value)) == 0;
  };
  // A restarted daemon takes its port again at once. Connections inherit the other two; messages
  // are small, and wait for nothing.
  if (!set(SOL_SOCKET, SO_REUSEADDR, 1) || !set(IPPROTO_TCP, TCP_NODELAY, 1)) {
    return Problem("setsockopt");
  }
  if (where.ai_family == AF_INET6) set(IPPROTO_IPV6, IPV6_V6ONLY, 0);
  if (bind(fd.get(), where.ai_addr, where.ai_addrlen) != 0) return Problem("bind");
  if (listen(fd.get(), kBacklog) != 0) return Problem("listen");
  const absl::StatusOr<HostPort> name = NameOf(fd.get());
  if (!name.ok()) return name.status();
  return ListeningSocket{std::move(fd), name->port};
}

}  // namespace

absl::StatusOr<HostPort> ParseHostPort(const std::string& text) {
  const size_t colon = text.rfind(':');
  const absl::Status wrong = absl::InvalidArgumentError(absl::StrCat(
      "'", text, "' is no address such as 10.0.0.7:7411, [fd00::7]:7411 or node7:7411"));
  if (colon == std::string::npos) return wrong;
  HostPort parsed{.host = text.substr(0, colon)};
  const std::string port = text.substr(colon + 1);
  uint32_t number = 0;
  const bool digits = port.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || !absl::SimpleAtoi(port, &number) || number > 65535) return wrong;
  parsed.port = static_cast<uint16_t>(number);
  const bool bracketed =
      parsed.host.size() > 2 && parsed.host.front() == '[' && parsed.host.back() == ']';
  if (bracketed) parsed.host = parsed.host.substr(1, parsed.host.size() - 2);
  const bool v6 = parsed.host.find(':') != std::string::npos;
  if (v6 != bracketed || parsed.host.find_first_of("[]/ ") != std::string::npos) return wrong;
  return parsed;
}

std::string FormatHostPort(const HostPort& address) {
  const bool v6 = address.host.find(':') != std::string::npos;
  return absl::StrCat(v6 ? "[" : "", address.host, v6 ? "]:" : ":", address.port);
}

std::string GrpcAddress(const std::string& address) {
  const absl::StatusOr<HostPort> parsed = ParseHostPort(address);
  if (!parsed.ok() || parsed->host.find(':') == std::string::npos) {
    return absl::StrCat("dns:///", address);
  }
  // A URI may not hold brackets.
  return absl::StrCat("ipv6:%5B", parsed->host, "%5D:", parsed->port);
}

bool IsWildcard(const std::string& host) {
  return host.empty() || host == "0.0.0.0" || host == "::";
}

absl::StatusOr<ListeningSocket> ListenTcp(const HostPort& address) {
  absl::StatusOr<ListeningSocket> result = absl::UnavailableError("no address");
  // Where there is no IPv6, the first that is tried.
  HostPort where = address;
  if (where.host.empty()) where.host = "::";
  auto found = LookUp(where, SOCK_STREAM, AI_PASSIVE);
  if (found.ok()) result = Listen(**found);
  if (!result.ok() && address.host.empty()) {
    where.host = "0.0.0.0";
    found = LookUp(where, SOCK_STREAM, AI_PASSIVE);
    if (found.ok()) result = Listen(**found);
  }
  const absl::Status& problem = found.ok() ? result.status() : found.status();
  if (problem.ok()) return result;
  return absl::UnavailableError(
      absl::StrCat("cannot listen on ", FormatHostPort(address), ": ", problem.message()));
}

std::string LocalHostToward(const std::string& peer) {
  const size_t scheme = peer.find(':');
  if (scheme == std::string::npos) return "";
  // gRPC escapes what a URI may not hold; of an address, these.
  const std::string text =
      absl::StrReplaceAll(peer.substr(scheme + 1), {{"%5B", "["}, {"%5D", "]"}, {"%25", "%"}});
  const absl::StatusOr<HostPort> address = ParseHostPort(text);
  if (!address.ok()) return "";
  const absl::StatusOr<AddressList> found = LookUp(*address, SOCK_DGRAM, AI_NUMERICHOST);
  if (!found.ok()) return "";
  const addrinfo& where = **found;
  UniqueFd fd(socket(where.ai_family, where.ai_socktype | SOCK_CLOEXEC, where.ai_protocol));
  // Of a datagram socket this sends nothing: it only chooses the way.
  if (!fd.valid() || connect(fd.get(), where.ai_addr, where.ai_addrlen) != 0) return "";
  const absl::StatusOr<HostPort> name = NameOf(fd.get());
  return name.ok() ? name->host : "";
}

}  // namespace tutti
