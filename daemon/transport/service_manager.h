// Tells systemd, or whatever else set NOTIFY_SOCKET, how the daemon's life goes (sd_notify(3)).
//
// Thread-safe: a free function without state.
#pragma once

#include <string>

namespace tutti {

// Sends `state`, as "READY=1", to `socket`: a path, or '@' and an abstract name; empty: to nobody.
// Nobody listening is no failure: the daemon runs as well without a manager.
void NotifyServiceManager(const std::string& socket, const std::string& state);

}  // namespace tutti
