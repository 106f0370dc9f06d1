#include "daemon/peer/convert.h"
#include "proto/convert.h"

namespace tutti {
namespace {

constexpr bool Same(LinkEndReason ours, v1::LinkEndReason wire) {
  return static_cast<int>(ours) == static_cast<int>(wire);
}
static_assert(Same(LinkEndReason::kUnspecified, v1::LINK_END_REASON_UNSPECIFIED));
static_assert(Same(LinkEndReason::kAnotherNode, v1::LINK_END_REASON_ANOTHER_NODE));
static_assert(Same(LinkEndReason::kCrossed, v1::LINK_END_REASON_CROSSED));
static_assert(Same(LinkEndReason::kStale, v1::LINK_END_REASON_STALE));
static_assert(Same(LinkEndReason::kWrongVersion, v1::LINK_END_REASON_VERSION));
static_assert(Same(LinkEndReason::kShutdown, v1::LINK_END_REASON_SHUTDOWN));
static_assert(Same(LinkEndReason::kProtocol, v1::LINK_END_REASON_PROTOCOL));
static_assert(Same(LinkEndReason::kOther, v1::LINK_END_REASON_OTHER));
static_assert(Same(LinkEndReason::kOther, v1::LinkEndReason_MAX));

// A time that is left must not become none.
uint64_t RoundedUpMs(absl::Duration duration) {
  return ToMilliseconds(absl::Ceil(duration, absl::Milliseconds(1)));
}

// One overload for each struct, named alike on both sides.

void Fill(const GroupKey& from, v1::GroupKey* to) {
  to->set_namespace_(from.first);
  to->set_name(from.second);
}

void Fill(const GroupTerms& from, v1::GroupTerms* to) {
  to->set_world_size(from.world_size);
  to->set_backend(from.backend);
  to->set_work_timeout_ms(RoundedUpMs(from.work_timeout));
}

void Fill(const Place& from, v1::Place* to) {
  to->set_sequence(from.sequence);
  to->set_pairwise(from.pairwise);
  to->set_source(from.source);
  to->set_destination(from.destination);
}

void Fill(const Ending& from, v1::Ending* to) {
  *to->mutable_failure() = ToProto(from.failure);
  to->set_closed(from.closed);
  to->set_leaver(from.leaver);
  to->set_last(from.last);
  for (const PairEnd& pair : from.pairs) {
    v1::PairEnd* const wire = to->add_pairs();
    wire->set_source(pair.source);
    wire->set_destination(pair.destination);
    wire->set_last(pair.last);
  }
  to->set_completed_through(from.completed_through);
}

void Fill(const Offer& from, v1::PeerMessage* message) {
  v1::Offer* const to = message->mutable_offer();
  to->set_join(from.join);
  Fill(from.key, to->mutable_key());
  to->set_rank(from.rank);
  Fill(from.terms, to->mutable_terms());
  to->set_time_left_ms(RoundedUpMs(from.time_left));
  to->set_who(from.who);
  to->set_last_epoch(from.last_epoch);
  to->set_over(from.over);
}

void Fill(const Withdraw& from, v1::PeerMessage* message) {
  v1::Withdraw* const to = message->mutable_withdraw();
  to->set_join(from.join);
  Fill(from.key, to->mutable_key());
}

void Fill(const Refused& from, v1::PeerMessage* message) {
  v1::Refused* const to = message->mutable_refused();
  to->set_join(from.join);
  *to->mutable_failure() = ToProto(from.failure);
}

void Fill(const Over& from, v1::PeerMessage* message) {
  v1::Over* const to = message->mutable_over();
  to->set_join(from.join);
  to->set_epoch_id(from.epoch_id);
}

void Fill(const Roster& from, v1::PeerMessage* message) {
  v1::Roster* const to = message->mutable_roster();
  to->set_epoch_id(from.epoch_id);
  to->set_epoch(from.epoch);
  Fill(from.key, to->mutable_key());
  Fill(from.terms, to->mutable_terms());
  for (const RosterNode& node : from.nodes) {
    v1::RosterNode* const wire = to->add_nodes();
    *wire->mutable_node() = ToProto(node.node);
    for (const Seat& seat : node.seats) {
      v1::Seat* const taken = wire->add_seats();
      taken->set_rank(seat.rank);
      taken->set_join(seat.join);
    }
  }
}

void Fill(const Entered& from, v1::PeerMessage* message) {
  message->mutable_entered()->set_epoch_id(from.epoch_id);
  message->mutable_entered()->set_address(from.address);
}

void Fill(const Meet& from, v1::PeerMessage* message) {
  message->mutable_meet()->set_epoch_id(from.epoch_id);
  message->mutable_meet()->mutable_addresses()->Assign(from.addresses.begin(),
                                                       from.addresses.end());
}

void Fill(const Connected& from, v1::PeerMessage* message) {
  message->mutable_connected()->set_epoch_id(from.epoch_id);
}

void Fill(const Live& from, v1::PeerMessage* message) {
  message->mutable_live()->set_epoch_id(from.epoch_id);
}

void Fill(const Report& from, v1::PeerMessage* message) {
  v1::Report* const to = message->mutable_report();
  to->set_epoch_id(from.epoch_id);
  Fill(from.ending, to->mutable_ending());
  if (from.waiting_at.has_value()) Fill(*from.waiting_at, to->mutable_waiting_at());
}

void Fill(const Ended& from, v1::PeerMessage* message) {
  message->mutable_ended()->set_epoch_id(from.epoch_id);
  Fill(from.ending, message->mutable_ended()->mutable_ending());
}

void Fill(const Gone& from, v1::PeerMessage* message) {
  message->mutable_gone()->set_epoch_id(from.epoch_id);
}

void Fill(const Inquiry& from, v1::PeerMessage* message) {
  message->mutable_inquiry()->set_epoch_id(from.epoch_id);
  Fill(from.place, message->mutable_inquiry()->mutable_place());
}

void Fill(const Answer& from, v1::PeerMessage* message) {
  v1::Answer* const to = message->mutable_answer();
  to->set_epoch_id(from.epoch_id);
  Fill(from.place, to->mutable_place());
  to->mutable_missing()->Assign(from.missing.begin(), from.missing.end());
  to->mutable_doing()->Assign(from.doing.begin(), from.doing.end());
}

void Fill(const Settled& from, v1::PeerMessage* message) {
  v1::Settled* const to = message->mutable_settled();
  to->set_epoch_id(from.epoch_id);
  to->set_sequence(from.sequence);
  to->set_value(from.value);
}

void Fill(const Registered& from, v1::PeerMessage* message) {
  v1::Registered* const to = message->mutable_registered();
  to->set_epoch_id(from.epoch_id);
  to->set_epoch(from.epoch);
  Fill(from.key, to->mutable_key());
  to->set_live(from.live);
}

void Fill(const Unregistered& from, v1::PeerMessage* message) {
  message->mutable_unregistered()->set_epoch_id(from.epoch_id);
}

void Fill(const Challenge& from, v1::PeerMessage* message) {
  message->mutable_challenge()->set_epoch_id(from.epoch_id);
}

void Fill(const SendReady& from, v1::PeerMessage* message) {
  v1::SendReady* const to = message->mutable_send_ready();
  to->set_epoch_id(from.epoch_id);
  Fill(from.place, to->mutable_place());
  to->set_dtype(ToProto(from.dtype));
  to->set_count(from.count);
  if (from.data.has_value()) to->set_data(*from.data);
  if (from.refused.has_value()) *to->mutable_refused() = ToProto(*from.refused);
}

void Fill(const SendTaken& from, v1::PeerMessage* message) {
  v1::SendTaken* const to = message->mutable_send_taken();
  to->set_epoch_id(from.epoch_id);
  Fill(from.place, to->mutable_place());
  if (from.failure.has_value()) *to->mutable_failure() = ToProto(*from.failure);
}

void Fill(const Hello& from, v1::LinkFrame* frame) {
  v1::LinkHello* const to = frame->mutable_hello();
  to->set_protocol_version(from.protocol_version);
  *to->mutable_node() = ToProto(from.node);
  to->set_expected_id(from.expected);
  to->set_attempt(from.attempt);
  to->set_answered_attempt(from.answered_attempt);
}

void Fill(const Welcome& from, v1::LinkFrame* frame) {
  *frame->mutable_welcome()->mutable_node() = ToProto(from.node);
  frame->mutable_welcome()->set_attempt(from.attempt);
}

void Fill(const Introduction& from, v1::LinkFrame* frame) {
  *frame->mutable_introduction()->mutable_node() = ToProto(from.node);
  if (from.seed.has_value()) {
    *frame->mutable_introduction()->mutable_seed() = ToProto(*from.seed);
  }
}

void Fill(const LinkEnd& from, v1::LinkFrame* frame) {
  frame->mutable_end()->set_reason(static_cast<v1::LinkEndReason>(from.reason));
  frame->mutable_end()->set_text(from.text);
}

void Fill(const PeerMessage& from, v1::LinkFrame* frame) {
  std::visit([frame](const auto& message) { Fill(message, frame->mutable_message()); }, from);
}

}  // namespace

v1::Node ToProto(const NodeInfo& node) {
  v1::Node wire;
  wire.set_id(node.id);
  wire.set_name(node.name);
  wire.set_address(node.address);
  return wire;
}

v1::LinkFrame ToProto(const LinkFrame& frame) {
  v1::LinkFrame wire;
  std::visit([&wire](const auto& one) { Fill(one, &wire); }, frame);
  return wire;
}

}  // namespace tutti
