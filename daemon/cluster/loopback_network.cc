#include "daemon/cluster/loopback_network.h"

#include <utility>

namespace tutti {

LoopbackNetwork::LoopbackNetwork(NodeInfo self, SequencedTaskRunner* loop)
    : self_(std::move(self)), loop_(loop) {}

void LoopbackNetwork::Start(PeerListener* listener) {
  listener_ = listener;
  listener_->SeedIs(self_, absl::ZeroDuration());
}

void LoopbackNetwork::Say(const NodeInfo& to, PeerMessage message) {
  loop_->Post([weak = std::weak_ptr(alive_), to, message = std::move(message)]() mutable {
    const auto alive = weak.lock();
    if (alive == nullptr) return;
    LoopbackNetwork& self = **alive;
    if (to.id == self.self_.id) {
      self.listener_->Heard(self.self_, std::move(message));
    } else {
      self.listener_->Lost(to, "this daemon is not in a cluster");
    }
  });
}

}  // namespace tutti
