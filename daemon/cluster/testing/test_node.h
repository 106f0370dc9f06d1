// Daemons on a virtual network, each with its Cluster, and with a host that does what it is told.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/deadline_queue.h"
#include "daemon/cluster/cluster.h"
#include "daemon/cluster/testing/virtual_network.h"

namespace tutti {

struct TestWorld;

// From its start to its death.
class TestNode final : public ClusterHost {
 public:
  // `opens_after`: if it is the seed.
  TestNode(TestWorld* world, size_t place, absl::Duration opens_after);

  // Joins; returns the join's number.
  uint64_t Join(const std::string& group, Rank rank, uint32_t world_size,
                absl::Duration timeout = absl::Seconds(60));
  void GiveUp(uint64_t join);

  // What has become of a join: nothing yet, the epoch that it is live in, or a failure.
  std::optional<EpochId> EpochOf(uint64_t join) const;
  std::optional<Failure> FailureOf(uint64_t join) const;
  bool Answered(uint64_t join) const { return live.contains(join) || refused.contains(join); }

  void Fail(const EpochId& epoch_id, const std::string& message, Cause cause = Cause::kRankDied);
  // Its rank leaves a live epoch, and so does the node if it was the last.
  void LeaveRank(const EpochId& epoch_id, Rank rank);

  // --- ClusterHost ---
  void JoinRefused(uint64_t join, const Failure& failure) override;
  void EpochEntered(const Roster& roster, size_t node) override;
  void NodesMet(const EpochId& epoch_id, const std::vector<std::string>& addresses) override;
  void EpochLive(const EpochId& epoch_id) override;
  void EpochEnded(const EpochId& epoch_id, const Ending& ending) override;
  void DescribeMissing(const EpochId& epoch_id, Answer* answer) override;
  void AgreeSettled(const Settled& agreed) override { settled.push_back(agreed); }
  uint64_t CompletedOf(const EpochId&) override { return completed; }
  void SendOffered(SendReady send) override { sends.push_back(std::move(send)); }
  void SendAnswered(const SendTaken& answer) override { taken.push_back(answer); }

  // An epoch that this node has entered and that has not failed.
  struct Entered {
    Roster roster;
    size_t node = 0;
    std::set<Rank> seated;
    bool live = false;
  };

  TestWorld* const world;
  const size_t place;
  // Who has not arrived, if somebody asks.
  std::vector<Rank> missing;
  bool answers_meetings = true;
  uint64_t completed = 0;

  std::map<EpochId, Entered> entered;
  std::map<uint64_t, EpochId> live;  // by join
  std::map<uint64_t, Failure> refused;
  std::map<EpochId, std::vector<Ending>> endings;
  std::vector<Settled> settled;
  std::vector<SendReady> sends;
  std::vector<SendTaken> taken;

  DeadlineQueue deadlines;
  Cluster cluster;

 private:
  void Connect(const EpochId& epoch_id);

  uint64_t last_join_ = 0;
  std::set<uint64_t> given_up_;
  // What it knows of names: the highest number, and the newest epoch that is over.
  std::map<GroupKey, std::pair<uint64_t, EpochId>> names_;
};

struct TestWorld {
  explicit TestWorld(size_t places, VirtualNetwork::Options options = {});
  ~TestWorld();

  TestNode& operator[](size_t place) { return *nodes[place]; }
  void Kill(size_t place);
  void Start(size_t place, absl::Duration opens_after = absl::ZeroDuration());
  void Advance(absl::Duration by) { loop.Advance(by); }
  // What must never be: recorded, for the test to find.
  void Require(bool holds, const std::string& what) {
    if (!holds) violations.insert(what);
  }

  FakeClock clock;
  ManualTaskRunner loop{&clock};
  VirtualNetwork network;
  std::vector<std::unique_ptr<TestNode>> nodes;
  // By epoch, the places that have ever entered it, and those that were connected: it may not be
  // live without.
  std::map<EpochId, std::set<size_t>> ever_entered;
  std::map<EpochId, std::set<size_t>> ever_connected;
  size_t ever_live = 0;
  // Which nodes have left which epochs with all their ranks.
  std::set<std::pair<NodeId, EpochId>> have_left;
  // Of each epoch, the failures with which its coordinator has ended it, as nodes have heard them.
  std::map<EpochId, std::set<std::string>> verdicts;
  std::set<std::string> violations;
};

}  // namespace tutti
