// Random faults: ranks join, give up, leave and fail; nodes die and come again, the seed too; links
// break, and are cut for a while. Whatever happens: no split group, one verdict per epoch, no wait
// for ever, and when it is over nothing is left behind and groups form as before.
#include <catch2/catch.hpp>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/failpoint.h"
#include "daemon/cluster/testing/test_node.h"

namespace tutti {
namespace {

constexpr size_t kPlaces = 4;
constexpr int kSteps = 60;
constexpr absl::Duration kJoinTimeout = absl::Seconds(60);

class History {
 public:
  explicit History(uint64_t seed) : world_(kPlaces, {.seed = seed}) {}

  size_t lives() const { return world_.ever_live; }

  // What went wrong; nothing if all is well.
  std::string Run() {
    for (int step = 0; step < kSteps; ++step) {
      Step();
      world_.Advance(absl::Microseconds(Pick(Pick(10) == 0 ? 10'000'000 : 2'000)));
    }
    Calm();
    CheckTogether();
    CheckAnswered();
    End();
    CheckNothingLeft();
    CheckFormsAgain();
    return world_.violations.empty() ? "" : *world_.violations.begin();
  }

 private:
  uint64_t Pick(uint64_t below) { return world_.network.random()() % below; }
  size_t SomePlace() { return Pick(kPlaces); }

  void Step() {
    const size_t place = SomePlace();
    const size_t other = (place + 1 + Pick(kPlaces - 1)) % kPlaces;
    TestNode* const node = world_.nodes[place].get();
    switch (Pick(20)) {
      case 0:
        joins_[place].clear();
        return node == nullptr ? world_.Start(place, absl::Seconds(5)) : world_.Kill(place);
      case 1:
        return world_.network.Break(place, other);
      case 2:
        return world_.network.Cut(place, other);
      case 3:
      case 4:
        return world_.network.Heal(place, other);
      case 5:
        return node == nullptr ? void() : GiveUpOne(node);
      case 6:
        return node == nullptr ? void() : FailOne(node);
      case 7:
      case 8:
        return node == nullptr ? void() : LeaveOne(node);
      case 9:
        return node == nullptr ? world_.Start(place, absl::Seconds(5)) : void();
      default:
        return node == nullptr ? void() : JoinOne(node);
    }
  }

  void JoinOne(TestNode* node) {
    const uint32_t world_size = static_cast<uint32_t>(2 + Pick(2));
    const Rank rank = static_cast<Rank>(Pick(world_size));
    joins_[node->place].push_back(
        node->Join(absl::StrCat("of ", world_size), rank, world_size, kJoinTimeout));
  }
  void GiveUpOne(TestNode* node) {
    auto& joins = joins_[node->place];
    if (joins.empty()) return;
    const uint64_t join = joins[Pick(joins.size())];
    if (node->Answered(join)) return;
    std::erase(joins, join);
    node->GiveUp(join);
  }
  void FailOne(TestNode* node) {
    if (node->entered.empty()) return;
    node->Fail(node->entered.begin()->first, absl::StrCat("failure ", ++failures_));
  }
  void LeaveOne(TestNode* node) {
    for (const auto& [epoch_id, epoch] : node->entered) {
      if (epoch.live) return node->LeaveRank(epoch_id, *epoch.seated.begin());
    }
  }

  // Everything works again, and time passes: no join may still wait, whatever its end.
  void Calm() {
    for (size_t a = 0; a < kPlaces; ++a) {
      if (world_.nodes[a] == nullptr) world_.Start(a);
      for (size_t b = a + 1; b < kPlaces; ++b) world_.network.Heal(a, b);
    }
    world_.Advance(kJoinTimeout + absl::Seconds(30));
  }
  // Nobody is live alone.
  void CheckTogether() {
    for (const auto& node : world_.nodes) {
      for (const auto& [epoch_id, epoch] : node->entered) {
        for (const RosterNode& other : epoch.roster.nodes) {
          world_.Require(IsInOrHasLeft(other.node, epoch_id), "a node is in an epoch alone");
        }
      }
    }
  }
  bool IsInOrHasLeft(const NodeInfo& info, const EpochId& epoch_id) const {
    for (const auto& node : world_.nodes) {
      if (world_.network.InfoOf(node->place).id == info.id && node->entered.contains(epoch_id)) {
        return true;
      }
    }
    return world_.have_left.contains({info.id, epoch_id});
  }
  void CheckAnswered() {
    for (const auto& node : world_.nodes) {
      world_.Require(node->cluster.joins() == 0, "a join waits for ever");
    }
  }
  void End() {
    for (const auto& node : world_.nodes) {
      while (!node->entered.empty()) {
        const EpochId epoch_id = node->entered.begin()->first;
        world_.Require(node->entered.begin()->second.live, "an epoch forms for ever");
        if (!node->entered.begin()->second.live) return;
        while (node->entered.contains(epoch_id)) LeaveOne(node.get());
      }
    }
    world_.Advance(absl::Seconds(10));
  }
  void CheckNothingLeft() {
    for (const auto& node : world_.nodes) {
      world_.Require(node->cluster.epochs() == 0, "an epoch is left");
      world_.Require(node->cluster.coordinated() == 0, "a coordinator is left");
    }
    world_.Require(world_[0].cluster.seed().names_in_use() == 0, "a name is left in use");
    world_.Require(world_[0].cluster.seed().formations() == 0, "a formation is left");
  }
  void CheckFormsAgain() {
    std::vector<uint64_t> joins;
    for (Rank rank = 0; rank < kPlaces; ++rank) {
      joins.push_back(world_[rank].Join("of 3", rank, kPlaces));
    }
    world_.Advance(absl::Seconds(2));
    for (Rank rank = 0; rank < kPlaces; ++rank) {
      world_.Require(world_[rank].EpochOf(joins[rank]).has_value(), "no group forms any more");
    }
  }

  TestWorld world_;
  std::vector<uint64_t> joins_[kPlaces];
  int failures_ = 0;
};

// The first seed of so many whose history goes wrong, and how; nothing if none does.
std::string FirstWrong(uint64_t histories) {
  size_t lives = 0;
  for (uint64_t seed = 1; seed <= histories; ++seed) {
    History history(seed);
    const std::string wrong = history.Run();
    if (!wrong.empty()) return absl::StrCat("seed ", seed, ": ", wrong);
    lives += history.lives();
  }
  // Two nodes and more each, beside the one at the end: else nothing was tried.
  return lives >= 8 * histories ? "" : absl::StrCat("only ", lives, " times was a node in a group");
}

TEST_CASE("whatever happens, there is no split group, one verdict, and no wait for ever") {
  CHECK(FirstWrong(5000) == "");
}

TEST_CASE("planted defects are found") {
  if (!kFailpointsBuiltIn) return;
  const std::string defect =
      GENERATE(as<std::string>(), "cluster.enter_anyway", "cluster.wait_for_lost",
               "cluster.tell_nothing", "coordinator.hasty", "coordinator.echo");
  CAPTURE(defect);
  SetFailpoint(defect, FailpointAction::kMutate, 1);
  CHECK(FirstWrong(1000) != "");
  SetFailpoint(defect, FailpointAction::kOff, 1);
}

}  // namespace
}  // namespace tutti
