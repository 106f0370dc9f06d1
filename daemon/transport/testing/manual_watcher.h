// Descriptors whose events a test lets happen.
#pragma once

#include <poll.h>

#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "daemon/transport/fd_watcher.h"

namespace tutti {

// Says what is ready when a test asks.
class ManualWatcher final : public FdWatcher {
 public:
  absl::StatusOr<WatchId> Watch(int fd, uint32_t,
                                std::function<void(uint32_t ready)> callback) override {
    if (full) return absl::ResourceExhaustedError("full");
    watches_[++last_] = {fd, std::move(callback)};
    return last_;
  }
  void Unwatch(WatchId watch) override { watches_.erase(watch); }

  // One turn: calls back for each descriptor that is ready.
  void Turn() {
    std::vector<WatchId> ids;
    for (const auto& [id, watch] : watches_) ids.push_back(id);
    for (const WatchId id : ids) {
      const auto found = watches_.find(id);
      if (found == watches_.end()) continue;
      pollfd state{};
      state.fd = found->second.first;
      state.events = POLLIN;
      if (poll(&state, 1, 0) != 1) continue;
      const auto callback = found->second.second;
      callback(static_cast<uint32_t>(state.revents));
    }
  }
  size_t count() const { return watches_.size(); }

  bool full = false;

 private:
  std::map<WatchId, std::pair<int, std::function<void(uint32_t)>>> watches_;
  WatchId last_ = 0;
};

}  // namespace tutti
