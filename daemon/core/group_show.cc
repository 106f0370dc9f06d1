// What a group shows to people: snapshots, and the log lines of stalls. Nothing here decides.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/log.h"
#include "daemon/core/group.h"

namespace tutti {
namespace {

// Rates are measured over windows of this length: shorter ones flicker, longer ones are late.
constexpr absl::Duration kRateWindow = absl::Seconds(1);

const char* NameOf(RankActivity activity) {
  switch (activity) {
    case RankActivity::kNeverJoined:
      return "never joined";
    case RankActivity::kIdle:
      return "idle";
    case RankActivity::kWaiting:
      return "waiting";
    case RankActivity::kInOtherOperation:
      return "in another operation";
    case RankActivity::kStopped:
      return "stopped";
    case RankActivity::kGone:
      return "gone";
    case RankActivity::kLeft:
      return "left";
    case RankActivity::kElsewhere:
      return "on another node";
  }
  return "?";
}

}  // namespace

const Operation* Group::OldestWaiting() const {
  const Operation* oldest = nullptr;
  const auto consider = [&](const OpSequence& sequence) {
    const Operation* const front = sequence.Front().get();
    if (front == nullptr || !front->awaited()) return;
    if (oldest == nullptr || front->first_submitted < oldest->first_submitted) oldest = front;
  };
  consider(collectives_);
  for (const auto& [pair, sequence] : transfers_) consider(sequence);
  return oldest;
}

RankSnapshot Group::ShowRank(Rank rank, const Operation* oldest) const {
  const Seat& seat = seats_[rank];
  RankSnapshot shown;
  shown.rank = rank;
  if (!IsHere(rank)) {
    shown.activity = RankActivity::kElsewhere;
    shown.detail = absl::StrCat("on node ", identity_.nodes[NodeOf(rank)].name);
    shown.since = seat.idle_since;
    return shown;
  }
  shown.session = seat.session;
  shown.last_sequence = collectives_.LastOf(rank);
  shown.since = seat.idle_since;
  const Session* const session =
      seat.session == 0 ? nullptr : services_->find_session(seat.session);
  if (session == nullptr) {
    shown.activity = seat.left ? RankActivity::kLeft : RankActivity::kGone;
    return shown;
  }
  shown.pid = session->info().pid;
  if (session->in_flight().empty()) {
    shown.activity = RankActivity::kIdle;
    return shown;
  }
  const auto& works = session->in_flight();
  const auto here = std::find_if(works.begin(), works.end(), [&](const auto& entry) {
    return entry.second.operation == oldest && entry.second.work->rank == rank;
  });
  const bool waiting = here != works.end();
  const InFlight& doing = waiting ? here->second : works.begin()->second;
  shown.activity = waiting ? RankActivity::kWaiting : RankActivity::kInOtherOperation;
  shown.detail = absl::StrCat("in ", doing.Describe());
  shown.since = doing.work->submitted;
  return shown;
}

std::string Group::DescribeMissingRank(Rank rank, const Operation* operation) const {
  const RankSnapshot shown = ShowRank(rank, operation);
  std::string text = absl::StrCat("rank ", rank);
  if (shown.pid != 0) absl::StrAppend(&text, " (pid ", shown.pid, ")");
  if (!IsHere(rank)) {
    absl::StrAppend(&text, " is on node ", identity_.nodes[NodeOf(rank)].name);
    return text;
  }
  if (services_->processes->StateOf(shown.pid) == ProcessState::kStopped) {
    absl::StrAppend(&text, " is stopped by a signal or a debugger");
  } else {
    const absl::Duration since = services_->clock->Now() - shown.since;
    absl::StrAppend(&text, " is ",
                    shown.detail.empty() ? NameOf(shown.activity) : shown.detail.c_str(), " for ",
                    absl::FormatDuration(absl::Trunc(since, absl::Milliseconds(1))));
  }
  absl::StrAppend(&text, ", its last collective was #", shown.last_sequence);
  return text;
}

std::vector<std::string> Group::DescribeMissing(const OpSequence& sequence,
                                                const Operation& operation) const {
  std::vector<std::string> doing;
  for (const Rank rank : MissingRanks(operation, sequence.ranks())) {
    doing.push_back(DescribeMissingRank(rank, &operation));
  }
  return doing;
}

void Group::ReportStalls() {
  const MonotonicTime now = services_->clock->Now();
  ForEachSequence([&](OpSequence* sequence) {
    const std::shared_ptr<Operation> operation = sequence->OldestIncomplete();
    if (operation == nullptr || operation->verdict.has_value() || !operation->awaited()) return;
    const absl::Duration age = now - operation->first_submitted;
    const absl::Duration due =
        std::max(operation->next_stall_report, services_->limits->stall_warning);
    if (age < due) return;
    operation->next_stall_report = 2 * age;
    LogWarning("op.stalled where={} age={} arrived={} missing={}",
               Quoted(Where(label(), operation.get())), absl::FormatDuration(age),
               Quoted(DescribeRanks(ArrivedRanks(*operation, sequence->ranks()))),
               Quoted(absl::StrJoin(DescribeMissing(*sequence, *operation), "; ")));
  });
}

OpSnapshot Group::ShowOperation(const OpSequence& sequence, const Operation& operation) const {
  const Signature& signature = operation.any().signature;
  OpSnapshot shown{.sequence = operation.sequence,
                   .kind = signature.kind,
                   .dtype = signature.dtype,
                   .op = signature.op,
                   .count = signature.count,
                   .root = signature.root,
                   .state = operation.state,
                   .first_submitted = operation.first_submitted,
                   .last_submitted = operation.last_submitted,
                   .ended = operation.last_submitted};
  if (IsPairwise(signature.kind)) {
    shown.source = sequence.ranks().front();
    shown.root = sequence.ranks().back();
  }
  return shown;
}

void Group::UpdateRates(MonotonicTime now) {
  const absl::Duration elapsed = now - window_.since;
  if (elapsed < kRateWindow) return;
  const double seconds = absl::ToDoubleSeconds(elapsed);
  const double ops = static_cast<double>(ops_done_ - window_.ops) / seconds;
  changed_ |= ops > 0 || ops_per_second_ > 0;
  ops_per_second_ = ops;
  bytes_per_second_ = static_cast<double>(bytes_done_ - window_.bytes) / seconds;
  window_ = {now, ops_done_, bytes_done_};
}

std::shared_ptr<const GroupSnapshot> Group::Show() {
  UpdateRates(services_->clock->Now());
  const Operation* const oldest = OldestWaiting();
  // What a rank does may change in another group: while something waits, look again.
  if (!changed_ && oldest == nullptr && shown_ != nullptr) return shown_;
  auto shown = std::make_shared<GroupSnapshot>();
  shown->name_space = identity_.name_space;
  shown->name = identity_.name;
  shown->epoch = identity_.epoch;
  shown->state = state_;
  shown->world_size = world_size();
  shown->backend = std::string(identity_.backend->name());
  shown->ops_done = ops_done_;
  shown->ops_failed = ops_failed_;
  shown->ops_per_second = ops_per_second_;
  shown->bytes_per_second = bytes_per_second_;
  shown->failure = failure_;
  for (Rank rank = 0; rank < world_size(); ++rank) {
    shown->ranks.push_back(ShowRank(rank, oldest));
    if (seats_[rank].session != 0 || !IsHere(rank)) ++shown->joined;
  }
  ForEachSequence([&](OpSequence* sequence) {
    shown->pending_count += sequence->operations().size();
    for (const auto& operation : sequence->operations()) {
      if (shown->pending.size() >= kPendingShownMax) break;
      OpSnapshot pending = ShowOperation(*sequence, *operation);
      pending.arrived = ArrivedRanks(*operation, sequence->ranks());
      pending.missing = MissingRanks(*operation, sequence->ranks());
      shown->pending.push_back(std::move(pending));
    }
  });
  std::stable_sort(shown->pending.begin(), shown->pending.end(),
                   [](const OpSnapshot& a, const OpSnapshot& b) {
                     return a.first_submitted < b.first_submitted;
                   });
  shown->recent = recorder_.Show();
  changed_ = false;
  shown_ = std::move(shown);
  return shown_;
}

}  // namespace tutti
