// What a group does that spans several nodes: it agrees with them, executes with them, and ends
// with them.
//
// Collectives: what all ranks of this node have submitted is said to the other nodes, ahead of the
// payload (agree.h), by the communicator's exchange on the leg's thread. A place at which this node
// refuses takes part in that, too: so all nodes are at the same place, always.
//
// The end: the coordinator decides (Ended). If a rank leaves, the collectives end at a place that
// all nodes reach together: who knows of it says there, in one last exchange, that nothing follows.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/log.h"
#include "daemon/core/group.h"
#include "daemon/core/shape.h"

namespace tutti {

bool Group::IsAcross(const OpSequence& sequence) const {
  if (!across()) return false;
  return &sequence == &collectives_ || SendsAcross(sequence) || ReceivesAcross(sequence);
}

bool Group::SendsAcross(const OpSequence& sequence) const {
  return across() && &sequence != &collectives_ && !IsHere(sequence.ranks().back());
}

bool Group::ReceivesAcross(const OpSequence& sequence) const {
  return across() && &sequence != &collectives_ && !IsHere(sequence.ranks().front());
}

Place Group::PlaceOf(const OpSequence& sequence, uint64_t place) const {
  if (&sequence == &collectives_) return {.sequence = place};
  return {.sequence = place,
          .pairwise = true,
          .source = sequence.ranks().front(),
          .destination = sequence.ranks().back()};
}

bool Group::AdvanceAcross(OpSequence* sequence, const std::shared_ptr<Operation>& operation) {
  return sequence == &collectives_ ? AdvanceCollective(operation)
                                   : AdvanceTransfer(sequence, operation);
}

// --- Collectives ---

bool Group::AdvanceCollective(const std::shared_ptr<Operation>& operation) {
  if (operation->abandoned) {
    Tell(operation.get(), operation->verdict);
    if (state_ != GroupState::kFailed && closing_ != Closing::kDone) return false;
    Finish(&collectives_, operation, operation->verdict);
    return true;
  }
  if (operation->complete()) StartAgreed(operation, WordsOf(*operation));
  return false;
}

void Group::StartAgreed(const std::shared_ptr<Operation>& operation, const Words& words) {
  auto agreement =
      std::make_shared<NodeAgreement>(identity_.name, identity_.epoch, identity_.nodes, words);
  Collective collective;
  if (words.refusal.has_value()) {
    collective.kind = CollectiveKind::kBarrier;
    collective.world_size = world_size();
  } else {
    collective = ToCollective(*operation, world_size());
  }
  collective.agreement = agreement.get();
  if (operation != nullptr) operation->state = WorkState::kRunning;
  using Kept = std::pair<std::shared_ptr<Operation>, std::shared_ptr<NodeAgreement>>;
  services_->executor->StartOn(
      leg_->collectives(), communicator_, std::move(collective),
      std::make_shared<Kept>(operation, agreement),
      [self = shared_from_this(), operation, agreement](const absl::Status& status) {
        self->RanAgreed(operation, *agreement, status);
      });
}

void Group::RanAgreed(const std::shared_ptr<Operation>& operation, const NodeAgreement& agreement,
                      const absl::Status& status) {
  if (!status.ok() && state_ != GroupState::kFailed) return Broke(operation.get(), status);
  if (operation == nullptr || agreement.last()) return RanLast(operation, agreement);
  const bool agreed = status.ok() && !agreement.verdict().has_value();
  if (agreed && operation->any().signature.kind == CollectiveKind::kAgree) return Settle(operation);
  Finish(&collectives_, operation, status.ok() ? agreement.verdict() : operation->verdict);
  StartClosing();
  Advance(&collectives_);
  CheckFinished();
}

// The last exchange of the epoch: nobody runs another.
void Group::RanLast(const std::shared_ptr<Operation>& operation, const NodeAgreement& agreement) {
  closing_ = Closing::kDone;
  const std::optional<Failure>& verdict = agreement.verdict();
  if (operation != nullptr) {
    operation->state = WorkState::kMatched;
    if (!operation->abandoned) {
      operation->abandoned = true;
      operation->verdict = verdict;
    }
  }
  if (verdict.has_value()) {
    if (state_ == GroupState::kReady) End(GroupState::kClosed, *verdict);
    Abandon(&collectives_, operation == nullptr ? completed_ : operation->sequence - 1, *verdict);
  }
  Advance(&collectives_);
  CheckFinished();
}

void Group::Broke(Operation* operation, const absl::Status& status) {
  if (operation == nullptr) {
    return peers_->cluster->Fail(
        identity_.epoch_id,
        {.failure = {.cause = Cause::kBackend,
                     .message = absl::StrCat(Where(label(), nullptr), ": ", status.message()),
                     .group = identity_.name,
                     .epoch = identity_.epoch}});
  }
  operation->broken = true;
  operation->state = WorkState::kMatched;
  peers_->cluster->Fail(identity_.epoch_id,
                        {.failure = BackendFailed(label(), *operation, status)});
}

// --- Agree: its result is what the coordinator says, so that all who can hear it have the same ---

void Group::Settle(const std::shared_ptr<Operation>& operation) {
  operation->state = WorkState::kAgreed;
  operation->broken = true;  // its turn comes with AgreeSettled
  const auto early = settled_.find(operation->sequence);
  if (early != settled_.end()) {
    return AgreeSettled({identity_.epoch_id, operation->sequence, early->second});
  }
  const Buffer& output = operation->any().buffers.outputs.front();
  peers_->cluster->Settle(identity_.epoch_id, operation->sequence, *output.data != std::byte{0});
}

void Group::AgreeSettled(const Settled& settled) {
  const std::shared_ptr<Operation> front = collectives_.Front();
  const bool there = front != nullptr && front->sequence == settled.sequence && front->complete() &&
                     front->broken && !front->abandoned;
  if (!there) {
    // It still runs here; or is none: then it is forgotten with the group.
    if (settled_.size() < kPendingShownMax) settled_[settled.sequence] = settled.value;
    return;
  }
  settled_.erase(settled.sequence);
  for (const auto& work : front->works) {
    *work->buffers.outputs.front().data = std::byte{settled.value};
  }
  front->broken = false;
  Finish(&collectives_, front, std::nullopt);
  StartClosing();
  Advance(&collectives_);
  CheckFinished();
}

// --- The end ---

void Group::Ended(const Ending& ending) {
  if (!across()) return;  // it has said so itself
  const auto self = shared_from_this();
  if (!ending.closed) return EndAcross(ending.failure);
  CapPairs(ending);
  End(GroupState::kClosed, ending.failure);
  CloseAfter(ending.last, ending.failure);
  CheckFinished();
}

void Group::LeaveAcross(Rank rank, const Failure& why) {
  Ending ending{.failure = why,
                .closed = true,
                .leaver = rank,
                .last = collectives_.LastOf(rank),
                .pairs = {}};
  for (const auto& [pair, sequence] : transfers_) {
    if (pair.first != rank && pair.second != rank) continue;
    ending.pairs.push_back({pair.first, pair.second, sequence.LastOf(rank)});
  }
  CapPairs(ending);
  End(GroupState::kClosed, why);
  CloseAfter(ending.last, why);
  peers_->cluster->Fail(identity_.epoch_id, std::move(ending));
  CheckFinished();
}

void Group::CloseAfter(uint64_t last, const Failure& why) {
  if (close_.has_value() && close_->last <= last) return;
  close_ = Close{last, why};
  // Who waits beyond is told at once; the exchange at that place comes when its turn does.
  for (const auto& operation : collectives_.CapAt(last, why)) {
    operation->abandoned = true;
    if (!operation->verdict.has_value()) operation->verdict = why;
    DisarmDeadline(operation.get());
    Tell(operation.get(), operation->verdict);
  }
  StartClosing();
  Advance(&collectives_);
}

void Group::StartClosing() {
  if (!close_.has_value() || closing_ != Closing::kNo || state_ == GroupState::kFailed) return;
  if (completed_ != close_->last) return;  // or more, if all had submitted it: then it runs already
  const std::shared_ptr<Operation> front = collectives_.Front();
  if (front != nullptr && (front->state == WorkState::kRunning || front->broken)) return;
  closing_ = Closing::kRunning;
  Words words{.sequence = completed_ + 1,
              .signature = {},
              .lengths = 0,
              .refusal = close_->why,
              .last = true};
  StartAgreed(nullptr, words);
}

void Group::EndAcross(const Failure& failure) {
  // If it was closed, that remains what people are shown; but nothing goes on any more.
  End(GroupState::kFailed, failure);
  state_ = GroupState::kFailed;
  changed_ = true;
  ForEachSequence([&](OpSequence* sequence) {
    sequence->CapAt(0, failure);
    for (const auto& operation : sequence->operations()) {
      operation->abandoned = true;
      operation->broken = false;
      if (!operation->verdict.has_value()) operation->verdict = failure;
      DisarmDeadline(operation.get());
    }
  });
  leg_->Abort();
  ForEachSequence([&](OpSequence* sequence) { Advance(sequence); });
  CheckFinished();
}

bool Group::finished() const {
  if (!across()) return true;
  if (state_ != GroupState::kFailed && closing_ != Closing::kDone) return false;
  if (closing_ == Closing::kRunning) return false;
  const auto idle = [](const OpSequence& sequence) { return sequence.operations().empty(); };
  return idle(collectives_) && std::all_of(transfers_.begin(), transfers_.end(),
                                           [&](const auto& entry) { return idle(entry.second); });
}

void Group::CheckFinished() {
  if (empty() && finished()) peers_->finished(identity_.epoch_id);
}

// --- What people are told ---

void Group::DescribeMissing(Answer* answer) const {
  const Place& place = answer->place;
  const OpSequence* sequence = &collectives_;
  if (place.pairwise) {
    const auto found = transfers_.find({place.source, place.destination});
    if (found == transfers_.end()) {
      if (place.destination < world_size() && IsHere(place.destination)) {
        answer->missing = {place.destination};
        answer->doing = {DescribeMissingRank(place.destination, nullptr)};
      }
      return;
    }
    sequence = &found->second;
  }
  for (const Rank rank : sequence->ranks()) {
    if (!IsHere(rank) || sequence->LastOf(rank) >= place.sequence) continue;
    answer->missing.push_back(rank);
    answer->doing.push_back(DescribeMissingRank(rank, nullptr));
  }
}

}  // namespace tutti
