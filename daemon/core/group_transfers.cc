// Transfers between ranks of two nodes.
//
// The node of the destination matches. It is told of every send, with the bytes of a small one, and
// answers when the recv has come and its turn is there; at that moment both nodes post the transfer
// to the threads that serve their direction, in the order of the answers.
#include <algorithm>
#include <utility>

#include "daemon/core/group.h"
#include "daemon/core/shape.h"

namespace tutti {

std::unique_ptr<Work> Group::RemoteWork(Rank rank, Signature signature) const {
  auto work = std::make_unique<Work>();
  work->rank = rank;
  work->buffers.rank = rank;
  work->signature = signature;
  work->submitted = services_->clock->Now();
  work->deadline = absl::InfiniteFuture();
  work->told = true;
  work->remote = true;
  return work;
}

void Group::OfferSend(const OpSequence& sequence, const Operation& operation) {
  const Work& send = *operation.works.front();
  SendReady ready{.epoch_id = identity_.epoch_id,
                  .place = PlaceOf(sequence, operation.sequence),
                  .dtype = send.signature.dtype,
                  .count = send.signature.count,
                  .data = {},
                  .refused = send.refused};
  if (send.sent != nullptr) {
    const Buffer bytes = send.sent->buffer();
    ready.data.emplace(reinterpret_cast<const char*>(bytes.data), bytes.size_bytes);
  }
  peers_->cluster->Say(identity_.epoch_id, NodeOf(sequence.ranks().back()), std::move(ready));
}

void Group::SendOffered(SendReady send) {
  const Place& place = send.place;
  if (!place.pairwise || place.source >= world_size() || place.destination >= world_size() ||
      IsHere(place.source) || !IsHere(place.destination)) {
    return;
  }
  WorkRequest request{.kind = CollectiveKind::kSend,
                      .dtype = send.dtype,
                      .root = place.destination,
                      .inputs = {{.length = send.count * SizeOf(send.dtype)}}};
  OpSequence* const sequence = SequenceOf(place.source, request);
  if (sequence == nullptr) return;
  if (!sequence->Accepts(place.source)) {
    return AnswerSend(*sequence, place.sequence, sequence->Refuse(place.source));
  }
  auto work = RemoteWork(place.source, SignatureOf(request));
  work->refused = std::move(send.refused);
  if (send.data.has_value() && send.data->size() == request.inputs.front().length) {
    work->received = *std::move(send.data);
    work->buffers.inputs.push_back(
        {reinterpret_cast<std::byte*>(work->received.data()), work->received.size()});
  }
  changed_ = true;
  Arrived(sequence, sequence->Add(std::move(work)));
  Advance(sequence);
}

void Group::AnswerSend(const OpSequence& sequence, uint64_t place, std::optional<Failure> failure) {
  peers_->cluster->Say(identity_.epoch_id, NodeOf(sequence.ranks().front()),
                       SendTaken{.epoch_id = identity_.epoch_id,
                                 .place = PlaceOf(sequence, place),
                                 .failure = std::move(failure)});
}

bool Group::AdvanceTransfer(OpSequence* sequence, const std::shared_ptr<Operation>& operation) {
  const bool receives = ReceivesAcross(*sequence);
  if (operation->verdict.has_value()) {
    Tell(operation.get(), operation->verdict);
    DisarmDeadline(operation.get());
    if (!operation->complete() && !operation->abandoned) return false;
    // Who has offered is always answered; who comes later is refused by the cap.
    if (receives && operation->works.front() != nullptr) {
      AnswerSend(*sequence, operation->sequence, operation->verdict);
    }
    Finish(sequence, operation, operation->verdict);
    return true;
  }
  if (!operation->complete()) return false;
  if (!receives) {
    // A large one has been started when it was answered; a small one has nothing more to do.
    Finish(sequence, operation, std::nullopt);
    return true;
  }
  AnswerSend(*sequence, operation->sequence, std::nullopt);
  const bool here = !operation->works.front()->buffers.inputs.empty();
  StartTransfer(here ? leg_->To(identity_.node) : leg_->From(NodeOf(sequence->ranks().front())),
                sequence, operation);
  return false;
}

void Group::StartTransfer(TaskRunner* runner, OpSequence* sequence,
                          const std::shared_ptr<Operation>& operation) {
  operation->state = WorkState::kRunning;
  services_->executor->StartOn(
      runner, communicator_, ToCollective(*operation, world_size()), operation,
      [self = shared_from_this(), sequence, operation](const absl::Status& status) {
        self->RanTransfer(sequence, operation, status);
      });
}

void Group::RanTransfer(OpSequence* sequence, const std::shared_ptr<Operation>& operation,
                        const absl::Status& status) {
  if (!status.ok() && state_ != GroupState::kFailed) return Broke(operation.get(), status);
  Finish(sequence, operation, status.ok() ? std::nullopt : operation->verdict);
  Advance(sequence);
  CheckFinished();
}

void Group::SendAnswered(const SendTaken& taken) {
  const auto found = transfers_.find({taken.place.source, taken.place.destination});
  if (found == transfers_.end() || !SendsAcross(found->second)) return;
  OpSequence* const sequence = &found->second;
  const std::shared_ptr<Operation> operation = sequence->OldestIncomplete();
  if (operation == nullptr || operation->sequence != taken.place.sequence) return;
  const Work& send = *operation->works.front();
  Signature signature = send.signature;
  signature.kind = CollectiveKind::kRecv;
  auto work = RemoteWork(taken.place.destination, signature);
  const bool large = send.sent == nullptr;
  if (!operation->verdict.has_value()) operation->verdict = taken.failure;
  sequence->Add(std::move(work));
  DisarmDeadline(operation.get());
  changed_ = true;
  // At once, in the order of the answers: the other node has posted its part as well.
  if (large && !operation->verdict.has_value()) {
    return StartTransfer(leg_->To(NodeOf(taken.place.destination)), sequence, operation);
  }
  Advance(sequence);
  CheckFinished();
}

void Group::CapPairs(const Ending& ending) {
  for (auto& [pair, sequence] : transfers_) {
    const auto end = std::find_if(
        ending.pairs.begin(), ending.pairs.end(),
        [&, key = pair](const PairEnd& p) { return std::pair(p.source, p.destination) == key; });
    uint64_t cap = sequence.created();
    const bool leaves = pair.first == ending.leaver || pair.second == ending.leaver;
    if (leaves) cap = end == ending.pairs.end() ? 0 : end->last;
    // What has been offered is answered, whatever the answer is.
    if (SendsAcross(sequence)) cap = std::max(cap, sequence.created());
    // Nobody else will send: only what has come already.
    if (ReceivesAcross(sequence) && !leaves) cap = sequence.LastOf(pair.first);
    Abandon(&sequence, cap, ending.failure);
  }
}

}  // namespace tutti
