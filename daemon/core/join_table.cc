#include "daemon/core/join_table.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/check.h"

namespace tutti {

JoinTable::JoinTable(SequencedTaskRunner* loop, DeadlineQueue* deadlines, absl::Duration grace,
                     Expired expired)
    : loop_(loop), deadlines_(deadlines), grace_(grace), expired_(std::move(expired)) {}

JoinTable::~JoinTable() = default;

void JoinTable::Add(Joiner joiner) {
  const JoinId id = joiner.id;
  const auto deadline = deadlines_->Add(joiner.deadline + grace_, [this, id] {
    waiting_.at(id).deadline.reset();
    expired_(id);
  });
  const bool added = waiting_.emplace(id, Waiting{std::move(joiner), deadline}).second;
  TUTTI_CHECK(added);
}

const Joiner* JoinTable::Find(JoinId join) const {
  const auto found = waiting_.find(join);
  return found == waiting_.end() ? nullptr : &found->second.joiner;
}

std::optional<Joiner> JoinTable::Take(JoinId join) {
  const auto found = waiting_.find(join);
  if (found == waiting_.end()) return std::nullopt;
  if (found->second.deadline.has_value()) deadlines_->Remove(*found->second.deadline);
  return std::move(waiting_.extract(found).mapped().joiner);
}

void JoinTable::Reply(Joiner joiner, Result<Joined> result) {
  loop_->Post([done = std::move(joiner.done), result = std::move(result)] { done(result); });
}

size_t JoinTable::CountIn(const std::string& name_space) const {
  std::set<GroupKey> keys;
  for (const auto& [id, waiting] : waiting_) {
    if (waiting.joiner.key.first == name_space) keys.insert(waiting.joiner.key);
  }
  return keys.size();
}

std::vector<std::shared_ptr<const GroupSnapshot>> JoinTable::Show() const {
  std::map<GroupKey, std::map<Rank, const Joiner*>> groups;
  for (const auto& [id, waiting] : waiting_) {
    groups[waiting.joiner.key].emplace(waiting.joiner.request.rank, &waiting.joiner);
  }
  std::vector<std::shared_ptr<const GroupSnapshot>> all;
  for (const auto& [key, joiners] : groups) {
    const Joiner& first = *joiners.begin()->second;
    auto shown = std::make_shared<GroupSnapshot>();
    shown->name_space = key.first;
    shown->name = key.second;
    shown->epoch = first.epoch;
    shown->state = GroupState::kForming;
    shown->world_size = first.request.world_size;
    shown->joined = static_cast<uint32_t>(joiners.size());
    shown->backend = first.request.backend;
    MonotonicTime began = first.joined;
    for (const auto& [rank, joiner] : joiners) began = std::min(began, joiner->joined);
    for (Rank rank = 0; rank < shown->world_size; ++rank) {
      RankSnapshot seat{.rank = rank, .since = began};
      const auto joiner = joiners.find(rank);
      if (joiner != joiners.end()) {
        seat.session = joiner->second->session;
        seat.pid = joiner->second->pid;
        seat.activity = RankActivity::kWaiting;
        seat.detail = "waiting for the group to form";
        seat.since = joiner->second->joined;
      }
      shown->ranks.push_back(std::move(seat));
    }
    all.push_back(std::move(shown));
  }
  return all;
}

}  // namespace tutti
