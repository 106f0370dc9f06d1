// One node's part in the cluster: its joins become groups with those of other nodes, and it learns
// how they end. Also the seed's part and the coordinators', where they are here.
//
// Knows nothing of sessions, works or memory: those are the host's (daemon/core). docs/adr/0014 has
// the protocol, tests/models/formation.pml a model of it.
//
// Lives on the control loop. Calls its host from within Heard and Lost only, never from within the
// host's calls.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/deadline_queue.h"
#include "daemon/cluster/coordinator.h"
#include "daemon/cluster/messages.h"
#include "daemon/cluster/peers.h"
#include "daemon/cluster/seed.h"

namespace tutti {

// Implemented by who owns the joins and the groups of this node.
class ClusterHost {
 public:
  virtual ~ClusterHost() = default;

  // The join has failed.
  virtual void JoinRefused(uint64_t join, const Failure& failure) = 0;

  // The joins of the roster that are this node's, number `node` of it, belong to an epoch now. The
  // host answers with Cluster::Enter, or at once with Connected if the epoch has one node.
  virtual void EpochEntered(const Roster& roster, size_t node) = 0;

  // All nodes have entered. The host answers with Connected, or Fail.
  virtual void NodesMet(const EpochId& epoch_id, const std::vector<std::string>& addresses) = 0;

  // All nodes are connected: the ranks may be told.
  virtual void EpochLive(const EpochId& epoch_id) = 0;

  // It has ended, as the coordinator says; or the coordinator is out of reach. If the ending is not
  // `closed`, nothing more is heard of the epoch.
  virtual void EpochEnded(const EpochId& epoch_id, const Ending& ending) = 0;

  // Who of this node has not arrived there, and what do they do? Fills in `missing` and `doing`.
  virtual void DescribeMissing(const EpochId& epoch_id, Answer* answer) = 0;

  // The agree at that place has this result, even if it has failed here.
  virtual void AgreeSettled(const Settled& settled) = 0;

  // The last collective of the epoch that is known to be complete on all nodes.
  virtual uint64_t CompletedOf(const EpochId& epoch_id) = 0;

  // From the node of the source, and of the destination.
  virtual void SendOffered(SendReady send) = 0;
  virtual void SendAnswered(const SendTaken& taken) = 0;
};

class Cluster final : public PeerListener {
 public:
  struct Services {
    const Clock* clock = nullptr;
    DeadlineQueue* deadlines = nullptr;
    std::function<void(void* bytes, size_t size)> random;
    PeerNetwork* network = nullptr;
    ClusterHost* host = nullptr;
  };

  // What `services` points to must outlive this.
  explicit Cluster(Services services);
  ~Cluster() override;

  // --- Joins ---

  // Offers a join to the seed, now or when there is one. `offer.join` is new, and `time_left` runs.
  // Then the host hears JoinRefused or EpochEntered, unless it withdraws.
  void Join(Offer offer);

  // It waits no more. If an epoch that is not live has it, that epoch ends: `why` tells the others.
  void GiveUp(uint64_t join, const Failure& why);

  // Nothing while none can be reached.
  const std::optional<NodeInfo>& seed_node() const { return seed_; }

  // --- Epochs. Those that this node is not in (any more) are ignored. ---

  void Enter(const EpochId& epoch_id, const std::string& address);
  void Connect(const EpochId& epoch_id);
  // Something has ended it here. EpochEnded will follow, with this or another reason.
  void Fail(const EpochId& epoch_id, Ending ending, std::optional<Place> waiting_at = {});
  // No rank of this node holds a seat of it any more, and it owes nothing to others. EpochEnded
  // follows when that is so on all nodes.
  void Leave(const EpochId& epoch_id);
  // The agree at that place has its result here. If this node is the coordinator, that makes it so
  // everywhere, and AgreeSettled follows.
  void Settle(const EpochId& epoch_id, uint64_t sequence, bool value);
  // To node number `node` of its roster.
  void Say(const EpochId& epoch_id, size_t node, PeerMessage message);

  // --- PeerListener ---
  void SeedIs(const NodeInfo& seed, absl::Duration opens_after) override;
  void NoSeed() override;
  void Heard(const NodeInfo& from, PeerMessage message) override;
  void Lost(const NodeInfo& node, const std::string& why) override;

  // For tests: that nothing is left behind.
  size_t joins() const { return joins_.size(); }
  size_t epochs() const { return epochs_.size(); }
  size_t coordinated() const { return coordinators_.size(); }
  const Seed& seed() const { return *own_seed_; }

 private:
  struct Waiting {
    Offer offer;
    MonotonicTime deadline;
    EpochId epoch_id;     // which has it; empty: none
    std::string why_not;  // the epoch that had it last has come to nothing
    int epochs = 0;       // that have had it
  };
  // An epoch that this node is in.
  struct Epoch {
    Roster roster;
    size_t node = 0;
    bool live = false;
    const NodeInfo& coordinator() const { return roster.nodes.front().node; }
  };

  // One for each message.
  void On(const NodeInfo& from, const Refused& refused);
  void On(const NodeInfo& from, const Over& over);
  void On(const NodeInfo& from, const Roster& roster);
  void On(const NodeInfo& from, const Challenge& challenge);
  void On(const NodeInfo& from, const Meet& meet);
  void On(const NodeInfo& from, const Live& live);
  void On(const NodeInfo& from, const Ended& ended);
  void On(const NodeInfo& from, const Inquiry& inquiry);
  void On(const NodeInfo& from, const Settled& settled);
  void On(const NodeInfo& from, const SendReady& send);
  void On(const NodeInfo& from, const SendTaken& taken);
  void On(const NodeInfo& from, const Offer& offer) { own_seed_->Heard(from, offer); }
  void On(const NodeInfo& from, const Withdraw& withdraw) { own_seed_->Heard(from, withdraw); }
  void On(const NodeInfo& from, const Registered& name) { own_seed_->Heard(from, name); }
  void On(const NodeInfo& from, const Unregistered& name) { own_seed_->Heard(from, name); }
  void On(const NodeInfo& from, const Entered& entered) { Coordinated(from, entered); }
  void On(const NodeInfo& from, const Connected& connected) { Coordinated(from, connected); }
  void On(const NodeInfo& from, const Report& report) { Coordinated(from, report); }
  void On(const NodeInfo& from, const Gone& gone) { Coordinated(from, gone); }
  void On(const NodeInfo& from, const Answer& answer) { Coordinated(from, answer); }
  template <typename Message>
  void Coordinated(const NodeInfo& from, const Message& message);

  // What the parts here speak through.
  std::function<void(const NodeInfo& to, PeerMessage message)> Sayer();
  bool IsSelf(const NodeInfo& node) const;
  bool IsSeed(const NodeInfo& node) const;
  void SayToSeed(PeerMessage message);
  void OfferNow(const Waiting& waiting);
  void Coordinate(const Roster& roster);
  void Register(const Coordinator& coordinator);
  // Forgets the coordinator if it is over, and tells the seed.
  void Tidy(const EpochId& epoch_id);
  // Null if this node is not in it.
  Epoch* Find(const EpochId& epoch_id);
  // Null also if `from` does not coordinate it: nobody else may speak for it.
  Epoch* Find(const EpochId& epoch_id, const NodeInfo& from);
  void SayToCoordinator(const Epoch& epoch, PeerMessage message);
  void End(const EpochId& epoch_id, const Ending& ending);
  // Joins of an epoch that was not live: offered once more, if a rank or a node has gone.
  void Release(const Epoch& epoch, const Failure& failure);

  const Services services_;
  std::unique_ptr<Seed> own_seed_;
  std::optional<NodeInfo> seed_;
  std::map<uint64_t, Waiting> joins_;
  std::map<EpochId, Epoch> epochs_;
  std::map<EpochId, std::unique_ptr<Coordinator>> coordinators_;
};

}  // namespace tutti
