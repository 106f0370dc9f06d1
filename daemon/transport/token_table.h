// The secrets that sessions show with each gRPC call, handed out on their session sockets.
//
// Lives on the control loop.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/core/ids.h"

namespace tutti {

class TokenTable {
 public:
  static constexpr size_t kTokenBytes = 32;

  // `random` fills a range of memory; it outlives this.
  explicit TokenTable(std::function<void(void* bytes, size_t size)> random);

  // Makes a token for `session`, which has none yet.
  std::string Issue(SessionId session);
  // The session's token is worth nothing from now on. Unknown sessions are ignored.
  void Revoke(SessionId session);

  // Whose token that is; nothing if nobody's. How long it takes tells nothing about other tokens
  // than the 8 bytes it is looked up by; 24 secret ones remain.
  std::optional<SessionId> Find(std::string_view token) const;

 private:
  struct Entry {
    std::string token;
    SessionId session = 0;
  };

  const std::function<void(void* bytes, size_t size)> random_;
  // By the first 8 bytes.
  std::map<std::string, Entry> entries_;
  std::map<SessionId, std::string> keys_;
};

}  // namespace tutti
