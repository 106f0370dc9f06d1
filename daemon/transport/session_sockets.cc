#include "daemon/transport/session_sockets.h"

#include <utility>
#include <vector>

#include "base/log.h"

namespace tutti {
namespace {

SessionServices With(DeadlineQueue* hellos, SessionServices services) {
  services.hellos = hellos;
  return services;
}

}  // namespace

SessionSockets::SessionSockets(SessionServices services, size_t sockets_max)
    : hellos_(services.clock, services.loop),
      services_(With(&hellos_, std::move(services))),
      sockets_max_(sockets_max) {}

void SessionSockets::Accept(UniqueFd connection) {
  if (open_.fetch_add(1) >= sockets_max_) {
    open_.fetch_sub(1);
    LogWarning("session.refused reason=\"more than {} session sockets\"", sockets_max_);
    return;
  }
  // std::function wants copies; a descriptor has one owner.
  auto shared = std::make_shared<UniqueFd>(std::move(connection));
  services_.loop->Post([this, shared] { Adopt(std::move(*shared)); });
}

void SessionSockets::Adopt(UniqueFd connection) {
  const uint64_t key = ++last_key_;
  auto socket = std::make_shared<SessionSocket>(std::move(connection), &services_, [this, key] {
    sockets_.erase(key);
    open_.fetch_sub(1);
  });
  sockets_.emplace(key, socket);
  socket->Start();
}

void SessionSockets::End(SessionId session, const Failure& failure) {
  for (const auto& [key, socket] : sockets_) {
    if (socket->session() != session) continue;
    // Closing erases the entry.
    const std::shared_ptr<SessionSocket> ended = socket;
    ended->Refuse(failure);
    return;
  }
}

void SessionSockets::EndAll(const Failure& failure) {
  std::vector<std::shared_ptr<SessionSocket>> all;
  for (const auto& [key, socket] : sockets_) all.push_back(socket);
  for (const auto& socket : all) socket->Refuse(failure);
}

}  // namespace tutti
