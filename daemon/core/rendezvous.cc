#include "daemon/core/rendezvous.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace tutti {
namespace {

// Names whose last epoch is remembered: at most 512 bytes each, 32 MiB in all.
constexpr size_t kEpochsRememberedMax = 65536;

}  // namespace

struct Rendezvous::Forming {
  uint64_t epoch = 0;
  MonotonicTime began;
  uint32_t world_size = 0;
  std::map<Rank, Joiner> joiners;
  std::optional<DeadlineQueue::Handle> deadline;

  std::vector<Rank> Missing() const {
    std::vector<Rank> missing;
    for (Rank rank = 0; rank < world_size; ++rank) {
      if (!joiners.contains(rank)) missing.push_back(rank);
    }
    return missing;
  }
};

Rendezvous::Rendezvous(const Clock* clock, SequencedTaskRunner* loop, DeadlineQueue* deadlines,
                       Formed formed)
    : clock_(clock), loop_(loop), deadlines_(deadlines), formed_(std::move(formed)) {}

Rendezvous::~Rendezvous() = default;

void Rendezvous::Reply(const Joiner& joiner, Result<Joined> result) {
  loop_->Post([done = joiner.done, result = std::move(result)] { done(result); });
}

uint64_t Rendezvous::NextEpoch(const GroupKey& key) {
  if (epochs_.size() >= kEpochsRememberedMax && !epochs_.contains(key)) {
    for (const auto& [name, epoch] : epochs_) epoch_floor_ = std::max(epoch_floor_, epoch);
    epochs_.clear();
  }
  return ++epochs_.try_emplace(key, epoch_floor_).first->second;
}

std::optional<Failure> Rendezvous::Disagreement(const Forming& forming,
                                                const Joiner& joiner) const {
  const Joiner& first = forming.joiners.begin()->second;
  const JoinRequest& a = first.request;
  const JoinRequest& b = joiner.request;
  std::string field;
  std::string theirs;
  std::string ours;
  if (a.world_size != b.world_size) {
    field = "world size";
    theirs = absl::StrCat(a.world_size);
    ours = absl::StrCat(b.world_size);
  } else if (a.backend != b.backend) {
    field = "backend";
    theirs = a.backend;
    ours = b.backend;
  } else if (a.work_timeout != b.work_timeout) {
    field = "work timeout";
    theirs = absl::FormatDuration(a.work_timeout);
    ours = absl::FormatDuration(b.work_timeout);
  } else {
    return std::nullopt;
  }
  std::vector<Rank> others;
  for (const auto& [rank, other] : forming.joiners) others.push_back(rank);
  return Failure{.cause = Cause::kMismatch,
                 .message = absl::StrCat("group ", Quoted(b.group), ": joiners disagree on ", field,
                                         " (", DescribeRanks(others), ": ", theirs, "; rank ",
                                         b.rank, ": ", ours, "); all of them failed, join again"),
                 .group = b.group,
                 .epoch = forming.epoch,
                 .culprits = {b.rank}};
}

void Rendezvous::Join(const GroupKey& key, Joiner joiner) {
  auto found = forming_.find(key);
  if (found != forming_.end()) {
    Forming& forming = *found->second;
    if (const auto failure = Disagreement(forming, joiner)) {
      Reply(joiner, *failure);
      Fail(found, *failure);
      return;
    }
    const auto seat = forming.joiners.find(joiner.request.rank);
    if (seat != forming.joiners.end()) {
      Reply(joiner,
            Failure{.cause = Cause::kSeatTaken,
                    .message = absl::StrCat("rank ", joiner.request.rank, " of group ",
                                            Quoted(key.second), " is taken by ", seat->second.who),
                    .group = key.second,
                    .epoch = forming.epoch,
                    .culprits = {joiner.request.rank}});
      return;
    }
  } else {
    auto forming = std::make_unique<Forming>();
    forming->epoch = NextEpoch(key);
    forming->began = clock_->Now();
    forming->world_size = joiner.request.world_size;
    found = forming_.emplace(key, std::move(forming)).first;
  }
  Forming& forming = *found->second;
  const Rank rank = joiner.request.rank;
  forming.joiners.emplace(rank, std::move(joiner));
  if (forming.joiners.size() < forming.world_size) {
    Rearm(key, &forming);
    return;
  }
  if (forming.deadline.has_value()) deadlines_->Remove(*forming.deadline);
  Formation formation{.key = key, .epoch = forming.epoch, .joiners = {}};
  for (auto& [seat, complete] : forming.joiners) formation.joiners.push_back(std::move(complete));
  forming_.erase(found);
  formed_(std::move(formation));
}

void Rendezvous::Rearm(const GroupKey& key, Forming* forming) {
  if (forming->deadline.has_value()) deadlines_->Remove(*forming->deadline);
  MonotonicTime earliest = absl::InfiniteFuture();
  for (const auto& [rank, joiner] : forming->joiners) {
    earliest = std::min(earliest, joiner.deadline);
  }
  forming->deadline = deadlines_->Add(earliest, [this, key] { Expired(key); });
}

void Rendezvous::Expired(const GroupKey& key) {
  const auto found = forming_.find(key);
  Forming& forming = *found->second;
  forming.deadline.reset();
  std::vector<Rank> missing = forming.Missing();
  const absl::Duration waited = clock_->Now() - forming.began;
  Fail(found, {.cause = Cause::kDeadline,
               .message = absl::StrCat(
                   "group ", Quoted(key.second), " (epoch ", forming.epoch, ") did not form in ",
                   absl::FormatDuration(absl::Trunc(waited, absl::Milliseconds(1))), ": ",
                   forming.joiners.size(), " of ", forming.world_size, " ranks have joined; ",
                   DescribeRanks(missing), " never joined"),
               .group = key.second,
               .epoch = forming.epoch,
               .missing = std::move(missing)});
}

void Rendezvous::Fail(FormingMap::iterator forming, const Failure& failure) {
  LogWarning("group.not_formed cause={} message={}", NameOf(failure.cause),
             Quoted(failure.message));
  if (forming->second->deadline.has_value()) deadlines_->Remove(*forming->second->deadline);
  for (const auto& [rank, joiner] : forming->second->joiners) Reply(joiner, failure);
  forming_.erase(forming);
}

template <typename Predicate>
void Rendezvous::Remove(Predicate gone) {
  for (auto entry = forming_.begin(); entry != forming_.end();) {
    Forming& forming = *entry->second;
    const size_t removed =
        std::erase_if(forming.joiners, [&](const auto& seat) { return gone(seat.second); });
    if (!forming.joiners.empty()) {
      if (removed > 0) Rearm(entry->first, &forming);
      ++entry;
      continue;
    }
    if (forming.deadline.has_value()) deadlines_->Remove(*forming.deadline);
    entry = forming_.erase(entry);
  }
}

void Rendezvous::Cancel(JoinId join) {
  Remove([join](const Joiner& joiner) { return joiner.id == join; });
}

void Rendezvous::Cancel(SessionId session, uint64_t join_number) {
  Remove([=](const Joiner& joiner) {
    return joiner.session == session && joiner.request.number == join_number;
  });
}

void Rendezvous::SessionGone(SessionId session) {
  Remove([session](const Joiner& joiner) { return joiner.session == session; });
}

void Rendezvous::FailAll(const Failure& failure) {
  while (!forming_.empty()) Fail(forming_.begin(), failure);
}

size_t Rendezvous::CountIn(const std::string& name_space) const {
  return static_cast<size_t>(
      std::count_if(forming_.begin(), forming_.end(),
                    [&](const auto& entry) { return entry.first.first == name_space; }));
}

std::vector<std::shared_ptr<const GroupSnapshot>> Rendezvous::Show() const {
  std::vector<std::shared_ptr<const GroupSnapshot>> all;
  for (const auto& [key, forming] : forming_) {
    auto shown = std::make_shared<GroupSnapshot>();
    shown->name_space = key.first;
    shown->name = key.second;
    shown->epoch = forming->epoch;
    shown->state = GroupState::kForming;
    shown->world_size = forming->world_size;
    shown->joined = static_cast<uint32_t>(forming->joiners.size());
    shown->backend = forming->joiners.begin()->second.request.backend;
    for (Rank rank = 0; rank < forming->world_size; ++rank) {
      RankSnapshot seat{.rank = rank, .since = forming->began};
      const auto joiner = forming->joiners.find(rank);
      if (joiner != forming->joiners.end()) {
        seat.session = joiner->second.session;
        seat.pid = joiner->second.pid;
        seat.activity = RankActivity::kWaiting;
        seat.detail = "waiting for the group to form";
        seat.since = joiner->second.joined;
      }
      shown->ranks.push_back(std::move(seat));
    }
    all.push_back(std::move(shown));
  }
  return all;
}

}  // namespace tutti
