#include "daemon/core/group.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "daemon/core/admit.h"

namespace tutti {
namespace {

// Then a worker takes one, however small, and the loop comes to other things.
constexpr int kInlineInARowMax = 16;

// By rank.
std::vector<size_t> NodesOf(const GroupIdentity& identity) {
  std::vector<size_t> nodes(identity.world_size);
  for (size_t node = 0; node < identity.nodes.size(); ++node) {
    for (const Rank rank : identity.nodes[node].ranks) nodes[rank] = node;
  }
  return nodes;
}

uint64_t InputBytes(const Operation& operation) {
  uint64_t bytes = 0;
  for (const auto& work : operation.works) {
    if (work == nullptr) continue;
    for (const Buffer& input : work->buffers.inputs) bytes += input.size_bytes;
  }
  return bytes;
}

}  // namespace

Group::Group(GroupIdentity identity, const std::vector<SessionId>& sessions,
             std::shared_ptr<Communicator> communicator, const GroupServices* services,
             const GroupPeers* peers)
    : Group(std::move(identity), sessions, std::move(communicator), nullptr, services, peers) {}

Group::Group(GroupIdentity identity, const std::vector<SessionId>& sessions,
             std::unique_ptr<Leg> leg, const GroupServices* services, const GroupPeers* peers)
    : Group(std::move(identity), sessions, nullptr, std::move(leg), services, peers) {}

Group::Group(GroupIdentity identity, const std::vector<SessionId>& sessions,
             std::shared_ptr<Communicator> communicator, std::unique_ptr<Leg> leg,
             const GroupServices* services, const GroupPeers* peers)
    : identity_(std::move(identity)),
      services_(services),
      peers_(peers),
      leg_(std::move(leg)),
      communicator_(leg_ == nullptr ? std::move(communicator) : leg_->communicator()),
      node_of_(NodesOf(identity_)),
      collectives_(identity_.nodes[identity_.node].ranks),
      recorder_(services->limits->recorder_ops_max) {
  const MonotonicTime now = services_->clock->Now();
  window_.since = now;
  for (const SessionId session : sessions) seats_.push_back({session, false, now});
}

bool Group::empty() const {
  return std::all_of(seats_.begin(), seats_.end(),
                     [](const Seat& seat) { return seat.session == 0; });
}

void Group::Submit(Session* session, Rank rank, const WorkRequest& request) {
  OpSequence* const sequence = SequenceOf(rank, request);
  const AdmitContext context{.session = *session,
                             .limits = *services_->limits,
                             .backend = *identity_.backend,
                             .rank = rank,
                             .world_size = world_size(),
                             .work_timeout = identity_.work_timeout,
                             .sequence = sequence,
                             .now = services_->clock->Now()};
  if (sequence != nullptr && !sequence->Accepts(rank)) {
    services_->completer->Complete(session->id(), request.number, sequence->Refuse(rank));
    return;
  }
  std::unique_ptr<Work> work = Admit(request, context);
  if (sequence == nullptr) {
    // A transfer with no such peer, or of no such kind: nobody else waits for it.
    TUTTI_CHECK(work->refused.has_value());
    services_->completer->Complete(session->id(), request.number, work->refused);
    return;
  }
  changed_ = true;
  const Work* const added = work.get();
  const std::shared_ptr<Operation> operation = sequence->Add(std::move(work));
  session->in_flight()[request.number] = {added, operation.get(), sequence, &identity_.name};
  if (request.kind == CollectiveKind::kSend) CompleteIfSmall(*session, operation.get());
  Arrived(sequence, operation);
  if (SendsAcross(*sequence)) OfferSend(*sequence, *operation);
  Advance(sequence);
}

void Group::CompleteIfSmall(const Session& session, Operation* operation) {
  Work* const send = operation->works.front().get();  // slot 0 of a pair is the source
  const bool small = !send->refused.has_value() && !operation->complete() &&
                     send->buffers.inputs.front().size_bytes <= kEagerSendBytesMax;
  if (!small) return;
  send->sent = SendBuffer::Copy(session.send_budget(), send->buffers.inputs.front());
  if (send->sent == nullptr) return;
  send->buffers.inputs.front() = send->sent->buffer();
  send->mappings.clear();
  send->told = true;
  services_->completer->Complete(send->session, send->number, std::nullopt);
}

OpSequence* Group::SequenceOf(Rank rank, const WorkRequest& request) {
  if (!IsPairwise(request.kind)) return &collectives_;
  if (request.root >= world_size() || request.root == rank) return nullptr;
  // What admission will refuse for every pair must not make a sequence for every pair.
  if (!Supports(*identity_.backend, request).ok()) return nullptr;
  const std::pair<Rank, Rank> pair = request.kind == CollectiveKind::kSend
                                         ? std::pair(rank, request.root)
                                         : std::pair(request.root, rank);
  const auto [found, created] =
      transfers_.try_emplace(pair, std::vector<Rank>{pair.first, pair.second});
  if (created && state_ != GroupState::kReady) found->second.CapAt(0, *failure_);
  return &found->second;
}

void Group::Arrived(OpSequence* sequence, const std::shared_ptr<Operation>& operation) {
  if (!operation->verdict.has_value()) {
    const bool refused =
        std::any_of(operation->works.begin(), operation->works.end(),
                    [](const auto& work) { return work != nullptr && work->refused.has_value(); });
    if (refused) {
      operation->verdict = PartsRefused(label(), *operation);
    } else if (operation->complete()) {
      operation->state = WorkState::kMatched;
      operation->verdict = Disagreement(*operation, label());
      if (operation->verdict.has_value()) {
        operation->verdict->group = identity_.name;
        operation->verdict->epoch = identity_.epoch;
      } else if (!across()) {
        // All ranks are on this node: nobody else has to agree.
        operation->state = WorkState::kAgreed;
      }
    }
  }
  // Also with a verdict: it is told when the operation's turn comes, and for that, ranks must come
  // that owe works before it.
  // What other nodes take part in has arrived when it ends.
  if (operation->complete() && !(across() && sequence == &collectives_)) {
    DisarmDeadline(operation.get());
  } else {
    ArmDeadline(sequence, operation);
  }
}

void Group::ArmDeadline(OpSequence* sequence, const std::shared_ptr<Operation>& operation) {
  MonotonicTime earliest = absl::InfiniteFuture();
  for (const auto& work : operation->works) {
    if (work != nullptr && !work->told) earliest = std::min(earliest, work->deadline);
  }
  if (operation->deadline.has_value() && operation->deadline_at == earliest) return;
  DisarmDeadline(operation.get());
  if (earliest == absl::InfiniteFuture()) return;  // a send that has completed waits for ever
  operation->deadline_at = earliest;
  operation->deadline = services_->deadlines->Add(
      earliest, [this, sequence, weak = std::weak_ptr<Operation>(operation)] {
        const std::shared_ptr<Operation> expired = weak.lock();
        TUTTI_CHECK(expired != nullptr && "an operation calls off its deadline before it ends");
        expired->deadline.reset();
        Expired(sequence, expired);
      });
}

void Group::DisarmDeadline(Operation* operation) {
  if (operation->deadline.has_value()) services_->deadlines->Remove(*operation->deadline);
  operation->deadline.reset();
}

void Group::Expired(OpSequence* sequence, const std::shared_ptr<Operation>& operation) {
  const auto self = shared_from_this();
  const absl::Duration waited = services_->clock->Now() - operation->first_submitted;
  const bool only_withdrawn = operation->any().signature.kind == CollectiveKind::kRecv;
  if (IsAcross(*sequence) && !only_withdrawn) {
    return peers_->cluster->Fail(identity_.epoch_id,
                                 {.failure = DeadlinePassed(label(), *operation, waited)},
                                 PlaceOf(*sequence, operation->sequence));
  }
  Failure failure =
      DeadlinePassed(label(), *operation, waited, DescribeMissing(*sequence, *operation));
  // The planted defect: a deadline that names nobody.
  if (!Mutated("group.name_nobody")) {
    failure.missing = MissingRanks(*operation, sequence->ranks());
  }
  if (!only_withdrawn && across()) {
    // A pair on this node: the others are concerned all the same.
    return peers_->cluster->Fail(identity_.epoch_id, {.failure = failure});
  }
  if (!only_withdrawn) {
    End(GroupState::kFailed, failure);
    AbandonAll(failure);
    return;
  }
  // An unmatched recv is only withdrawn: its sender may come later and find another.
  operation->state = WorkState::kFailed;
  Record(*sequence, *operation, failure);
  Tell(operation.get(), failure);
  sequence->Withdraw(*operation);
}

void Group::Advance(OpSequence* sequence) {
  const auto self = shared_from_this();
  for (int inlined = 0; const std::shared_ptr<Operation> operation = sequence->Front();) {
    if (operation->state == WorkState::kRunning || operation->broken) return;
    if (IsAcross(*sequence)) {
      if (!AdvanceAcross(sequence, operation)) return;
      continue;
    }
    if (operation->verdict.has_value()) {
      Tell(operation.get(), operation->verdict);
      // Nobody waits in it any more.
      DisarmDeadline(operation.get());
      if (!operation->complete() && !operation->abandoned) return;
      Finish(sequence, operation, operation->verdict);
      continue;
    }
    if (!operation->complete()) return;
    const ExecutionContext context{communicator_, world_size()};
    if (inlined < kInlineInARowMax && !across()) {
      const auto status = services_->executor->TryInline(context, operation.get());
      if (status.has_value()) {
        ++inlined;
        Ran(sequence, operation, *status);
        continue;
      }
    }
    services_->executor->Start(context, operation,
                               [self, sequence, operation](const absl::Status& late) {
                                 self->Ran(sequence, operation, late);
                                 self->Advance(sequence);
                               });
    return;
  }
}

void Group::Ran(OpSequence* sequence, const std::shared_ptr<Operation>& operation,
                const absl::Status& status) {
  if (status.ok()) {
    Finish(sequence, operation, std::nullopt);
    return;
  }
  if (across()) return Broke(operation.get(), status);
  const Failure failure = BackendFailed(label(), *operation, status);
  Finish(sequence, operation, failure);
  // What ran has left outputs in any state: the epoch is over.
  End(GroupState::kFailed, failure);
  AbandonAll(failure);
}

void Group::Tell(Operation* operation, const std::optional<Failure>& failure) {
  const MonotonicTime now = services_->clock->Now();
  for (const auto& work : operation->works) {
    if (work == nullptr || work->told) continue;
    work->told = true;
    if (work->rank < seats_.size()) seats_[work->rank].idle_since = now;
    services_->completer->Complete(work->session, work->number, failure);
  }
}

void Group::Finish(OpSequence* sequence, const std::shared_ptr<Operation>& operation,
                   const std::optional<Failure>& failure) {
  TUTTI_CHECK(sequence->Front() == operation);
  if (sequence == &collectives_) completed_ = operation->sequence;
  DisarmDeadline(operation.get());
  operation->state = failure.has_value() ? WorkState::kFailed : WorkState::kDone;
  if (!failure.has_value()) bytes_done_ += InputBytes(*operation);
  Record(*sequence, *operation, failure);
  Tell(operation.get(), failure);
  sequence->PopFront();
}

void Group::Record(const OpSequence& sequence, const Operation& operation,
                   const std::optional<Failure>& failure) {
  changed_ = true;
  ++(failure.has_value() ? ops_failed_ : ops_done_);
  OpSnapshot record = ShowOperation(sequence, operation);
  record.ended = services_->clock->Now();
  record.failure = failure;
  recorder_.Record(std::move(record));
}

void Group::Leave(Rank rank) {
  const auto self = shared_from_this();
  Seat& seat = seats_[rank];
  if (seat.session == 0) return;
  const Session* const session = services_->find_session(seat.session);
  const std::string who = session == nullptr ? "no session" : session->Describe();
  seat.session = 0;
  seat.left = true;
  changed_ = true;
  if (across()) {
    return LeaveAcross(rank, RanksGone(label(), Cause::kRankLeft, {rank}, who, nullptr));
  }
  ForEachSequence([&](OpSequence* sequence) {
    const auto& ranks = sequence->ranks();
    const bool takes_part = std::find(ranks.begin(), ranks.end(), rank) != ranks.end();
    const uint64_t cap = takes_part ? sequence->LastOf(rank) : sequence->created();
    const std::shared_ptr<Operation> first = sequence->FirstBeyond(cap);
    Abandon(sequence, cap, RanksGone(label(), Cause::kRankLeft, {rank}, who, first.get()));
  });
  End(GroupState::kClosed, RanksGone(label(), Cause::kRankLeft, {rank}, who, nullptr));
}

void Group::SeatsLost(const std::vector<Rank>& ranks, Cause cause, const std::string& who) {
  const auto self = shared_from_this();
  for (const Rank rank : ranks) seats_[rank].session = 0;
  changed_ = true;
  const std::shared_ptr<Operation> first = collectives_.OldestIncomplete();
  const Failure failure = RanksGone(label(), cause, ranks, who, first.get());
  if (across()) return peers_->cluster->Fail(identity_.epoch_id, {.failure = failure});
  End(cause == Cause::kSessionClosed ? GroupState::kClosed : GroupState::kFailed, failure);
  AbandonAll(failure);
}

void Group::End(GroupState state, Failure failure) {
  if (state_ != GroupState::kReady) return;
  state_ = state;
  changed_ = true;
  if (state == GroupState::kFailed) {
    LogWarning("group.failed group={} epoch={} cause={} message={}", Quoted(identity_.name),
               identity_.epoch, NameOf(failure.cause), Quoted(failure.message));
  } else {
    LogInfo("group.closed group={} epoch={} message={}", Quoted(identity_.name), identity_.epoch,
            Quoted(failure.message));
  }
  failure_ = std::move(failure);
  services_->ended();
  // The name is free again.
  if (!across()) peers_->cluster->Fail(identity_.epoch_id, {.failure = *failure_});
}

void Group::Abandon(OpSequence* sequence, uint64_t cap, const Failure& failure) {
  for (const std::shared_ptr<Operation>& operation : sequence->CapAt(cap, failure)) {
    operation->abandoned = true;
    if (!operation->verdict.has_value()) operation->verdict = failure;
    DisarmDeadline(operation.get());
  }
  Advance(sequence);
}

void Group::AbandonAll(const Failure& failure) {
  ForEachSequence([&](OpSequence* sequence) { Abandon(sequence, 0, failure); });
}

}  // namespace tutti
