// The network of a node of its own: it hears what it says to itself, and is its own seed.
//
// Lives on the control loop.
#pragma once

#include <memory>

#include "base/task_runner.h"
#include "daemon/cluster/peers.h"

namespace tutti {

class LoopbackNetwork final : public PeerNetwork {
 public:
  // `loop` must outlive this.
  LoopbackNetwork(NodeInfo self, SequencedTaskRunner* loop);

  // From now on `listener` hears what is said; it hears SeedIs within this call. It may be
  // destroyed before what is on its way has arrived, if this is as well.
  void Start(PeerListener* listener);

  const NodeInfo& self() const override { return self_; }
  // To another node: it is lost.
  void Say(const NodeInfo& to, PeerMessage message) override;

 private:
  const NodeInfo self_;
  SequencedTaskRunner* const loop_;
  PeerListener* listener_ = nullptr;
  // Tasks that the loop holds find this gone after the network has been destroyed.
  const std::shared_ptr<LoopbackNetwork*> alive_ = std::make_shared<LoopbackNetwork*>(this);
};

}  // namespace tutti
