#include "daemon/cluster/testing/test_node.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace tutti {
namespace {

void FillFrom(std::mt19937_64* random, void* bytes, size_t size) {
  for (size_t i = 0; i < size; ++i) static_cast<uint8_t*>(bytes)[i] = (*random)() & 0xff;
}

}  // namespace

TestNode::TestNode(TestWorld* its_world, size_t its_place, absl::Duration opens_after)
    : world(its_world),
      place(its_place),
      deadlines(&world->clock, &world->loop),
      cluster({.clock = &world->clock,
               .deadlines = &deadlines,
               .random = [this](void* bytes,
                                size_t size) { FillFrom(&world->network.random(), bytes, size); },
               .network = world->network.Start(its_place),
               .host = this}) {
  world->network.Listen(place, &cluster, opens_after);
}

uint64_t TestNode::Join(const std::string& group, Rank rank, uint32_t world_size,
                        absl::Duration timeout) {
  const GroupKey key("default", group);
  cluster.Join(
      {.join = ++last_join_,
       .key = key,
       .rank = rank,
       .terms = {.world_size = world_size, .backend = "auto", .work_timeout = absl::Seconds(5)},
       .time_left = timeout,
       .who = absl::StrCat("session ", last_join_),
       .last_epoch = names_[key].first,
       .over = names_[key].second});
  return last_join_;
}

void TestNode::GiveUp(uint64_t join) {
  given_up_.insert(join);
  cluster.GiveUp(join, {.cause = Cause::kWithdrawn, .message = "a rank has given up"});
}

std::optional<EpochId> TestNode::EpochOf(uint64_t join) const {
  const auto found = live.find(join);
  return found == live.end() ? std::nullopt : std::optional(found->second);
}

std::optional<Failure> TestNode::FailureOf(uint64_t join) const {
  const auto found = refused.find(join);
  return found == refused.end() ? std::nullopt : std::optional(found->second);
}

void TestNode::Fail(const EpochId& epoch_id, const std::string& message, Cause cause) {
  cluster.Fail(epoch_id, {.failure = {.cause = cause, .message = message}});
}

void TestNode::LeaveRank(const EpochId& epoch_id, Rank rank) {
  Entered& epoch = entered.at(epoch_id);
  TUTTI_CHECK(epoch.live && epoch.seated.erase(rank) == 1);
  names_[epoch.roster.key].second = epoch_id;
  cluster.Fail(
      epoch_id,
      {.failure = {.cause = Cause::kRankLeft, .culprits = {rank}}, .closed = true, .leaver = rank});
  if (!epoch.seated.empty()) return;
  cluster.Leave(epoch_id);
  world->have_left.emplace(world->network.InfoOf(place).id, epoch_id);
  entered.erase(epoch_id);
}

void TestNode::JoinRefused(uint64_t join, const Failure& failure) {
  world->Require(!Answered(join), "a join is answered twice");
  refused.emplace(join, failure);
}

void TestNode::EpochEntered(const Roster& roster, size_t node) {
  world->Require(world->ever_entered[roster.epoch_id].insert(place).second,
                 "a node enters an epoch twice");
  Entered epoch{.roster = roster, .node = node, .seated = {}, .live = false};
  for (const Seat& seat : roster.nodes[node].seats) {
    world->Require(!Answered(seat.join) && !given_up_.contains(seat.join),
                   "an epoch is entered for a join that does not wait");
    epoch.seated.insert(seat.rank);
  }
  entered.emplace(roster.epoch_id, std::move(epoch));
  names_[roster.key].first = std::max(names_[roster.key].first, roster.epoch);
  if (roster.nodes.size() == 1) {
    Connect(roster.epoch_id);
  } else {
    cluster.Enter(roster.epoch_id, absl::StrCat("address of ", place));
  }
}

void TestNode::NodesMet(const EpochId& epoch_id, const std::vector<std::string>& addresses) {
  TUTTI_CHECK(addresses.size() == entered.at(epoch_id).roster.nodes.size());
  if (answers_meetings) Connect(epoch_id);
}

void TestNode::Connect(const EpochId& epoch_id) {
  world->ever_connected[epoch_id].insert(place);
  cluster.Connect(epoch_id);
}

void TestNode::EpochLive(const EpochId& epoch_id) {
  Entered& epoch = entered.at(epoch_id);
  world->Require(!epoch.live, "an epoch is live twice");
  epoch.live = true;
  ++world->ever_live;
  world->Require(world->ever_connected.at(epoch_id).size() == epoch.roster.nodes.size(),
                 "an epoch is live to which not all its nodes are connected");
  for (const Seat& seat : epoch.roster.nodes[epoch.node].seats) {
    world->Require(!Answered(seat.join), "a join is answered twice");
    live.emplace(seat.join, epoch_id);
  }
}

void TestNode::EpochEnded(const EpochId& epoch_id, const Ending& ending) {
  if (!entered.contains(epoch_id)) return;  // all its ranks have left
  const Entered& epoch = entered.at(epoch_id);
  endings[epoch_id].push_back(ending);
  names_[epoch.roster.key].second = epoch_id;
  if (ending.closed) return;
  // (c) of design.md: who is cut off says so itself. (b): all others are told the same.
  const bool cut_off = ending.failure.message.find("can't be reached") != std::string::npos;
  if (!cut_off) world->verdicts[epoch_id].insert(ending.failure.message);
  world->Require(world->verdicts[epoch_id].size() <= 1, "an epoch has two verdicts");
  entered.erase(epoch_id);
}

void TestNode::DescribeMissing(const EpochId& epoch_id, Answer* answer) {
  const Entered& epoch = entered.at(epoch_id);
  for (const Rank rank : missing) {
    if (!epoch.seated.contains(rank)) continue;
    answer->missing.push_back(rank);
    answer->doing.push_back(absl::StrCat("rank ", rank, ": idle"));
  }
}

TestWorld::TestWorld(size_t places, VirtualNetwork::Options options)
    : network(&clock, &loop, options), nodes(places) {
  for (size_t place = 0; place < places; ++place) {
    network.AddPlace(std::string(1, static_cast<char>('a' + place % 26)) +
                     (place < 26 ? "" : absl::StrCat(place)));
  }
  for (size_t place = 0; place < places; ++place) Start(place);
  Advance(absl::Seconds(1));
}

TestWorld::~TestWorld() {
  for (size_t place = 0; place < nodes.size(); ++place) {
    if (nodes[place] != nullptr) Kill(place);
  }
}

void TestWorld::Kill(size_t place) {
  network.Die(place);
  nodes[place].reset();
}

void TestWorld::Start(size_t place, absl::Duration opens_after) {
  nodes[place] = std::make_unique<TestNode>(this, place, opens_after);
}

}  // namespace tutti
