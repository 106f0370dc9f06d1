#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/core/limits.h"
#include "daemon/peer/convert.h"
#include "proto/convert.h"

namespace tutti {
namespace {

constexpr size_t kIdBytes = 16;
// The most that world_size_max can allow.
constexpr uint32_t kRanksMax = 65536;
// A host name has at most 253 characters; a port and brackets come on top.
constexpr size_t kAddressBytesMax = 320;
// What is for people; a failure may name every rank.
constexpr size_t kTextBytesMax = 1 << 20;
// Longer than any deadline; and far from where absl::Duration ends.
constexpr uint64_t kMsMax = uint64_t{100} * 365 * 24 * 3600 * 1000;

// Reads one frame, and remembers the first thing that cannot be.
class Reader {
 public:
  absl::StatusOr<LinkFrame> Read(const v1::LinkFrame& wire) {
    LinkFrame frame = Of(wire);
    if (!problem_.empty()) return absl::InvalidArgumentError(problem_);
    return frame;
  }

 private:
  void Problem(const char* what, const char* field) {
    if (problem_.empty()) problem_ = absl::StrCat(what, ": ", field);
  }
  void Require(bool right, const char* what, const char* field) {
    if (!right) Problem(what, field);
  }

  std::string Id(const std::string& id, const char* field) {
    Require(id.size() == kIdBytes, "an id has 16 bytes", field);
    return id;
  }
  std::string IdOrEmpty(const std::string& id, const char* field) {
    return id.empty() ? id : Id(id, field);
  }
  std::string Text(const std::string& text, size_t bytes_max, const char* field) {
    Require(text.size() <= bytes_max, "too long", field);
    return text;
  }
  Rank RankOf(uint32_t rank, const char* field) {
    Require(rank < kRanksMax, "no rank", field);
    return rank;
  }
  absl::Duration Time(uint64_t ms, const char* field) {
    Require(ms <= kMsMax, "too long a time", field);
    return absl::Milliseconds(static_cast<int64_t>(std::min(ms, kMsMax)));
  }
  template <typename List>
  void AtMost(const List& list, uint32_t count_max, const char* field) {
    Require(static_cast<uint32_t>(list.size()) <= count_max, "too many", field);
  }

  NodeInfo Of(const v1::Node& wire) {
    return {.id = Id(wire.id(), "Node.id"),
            .name = Text(wire.name(), kNameBytesMax, "Node.name"),
            .address = Text(wire.address(), kAddressBytesMax, "Node.address")};
  }
  GroupKey Of(const v1::GroupKey& wire) {
    return {Text(wire.namespace_(), kNameBytesMax, "GroupKey.namespace"),
            Text(wire.name(), kNameBytesMax, "GroupKey.name")};
  }
  GroupTerms Of(const v1::GroupTerms& wire) {
    Require(wire.world_size() >= 1 && wire.world_size() <= kRanksMax, "out of bounds",
            "GroupTerms.world_size");
    return {.world_size = wire.world_size(),
            .backend = Text(wire.backend(), kNameBytesMax, "GroupTerms.backend"),
            .work_timeout = Time(wire.work_timeout_ms(), "GroupTerms.work_timeout_ms")};
  }
  Failure Of(const v1::Failure& wire) {
    Text(wire.message(), kTextBytesMax, "Failure.message");
    Text(wire.group(), kNameBytesMax, "Failure.group");
    AtMost(wire.culprits(), kRanksMax, "Failure.culprits");
    AtMost(wire.missing(), kRanksMax, "Failure.missing");
    return FromProto(wire);
  }
  Place Of(const v1::Place& wire) {
    return {.sequence = wire.sequence(),
            .pairwise = wire.pairwise(),
            .source = RankOf(wire.source(), "Place.source"),
            .destination = RankOf(wire.destination(), "Place.destination")};
  }
  Ending Of(const v1::Ending& wire) {
    // Of a leaver: to each other rank and from it.
    AtMost(wire.pairs(), 2 * kRanksMax, "Ending.pairs");
    Ending ending{.failure = Of(wire.failure()),
                  .closed = wire.closed(),
                  .leaver = RankOf(wire.leaver(), "Ending.leaver"),
                  .last = wire.last(),
                  .completed_through = wire.completed_through()};
    for (const v1::PairEnd& pair : wire.pairs()) {
      ending.pairs.push_back({.source = RankOf(pair.source(), "PairEnd.source"),
                              .destination = RankOf(pair.destination(), "PairEnd.destination"),
                              .last = pair.last()});
    }
    return ending;
  }

  Offer Of(const v1::Offer& wire) {
    return {.join = wire.join(),
            .key = Of(wire.key()),
            .rank = RankOf(wire.rank(), "Offer.rank"),
            .terms = Of(wire.terms()),
            .time_left = Time(wire.time_left_ms(), "Offer.time_left_ms"),
            .who = Text(wire.who(), kTextBytesMax, "Offer.who"),
            .last_epoch = wire.last_epoch(),
            .over = IdOrEmpty(wire.over(), "Offer.over")};
  }
  Withdraw Of(const v1::Withdraw& wire) { return {.join = wire.join(), .key = Of(wire.key())}; }
  Refused Of(const v1::Refused& wire) {
    return {.join = wire.join(), .failure = Of(wire.failure())};
  }
  Over Of(const v1::Over& wire) {
    return {.join = wire.join(), .epoch_id = Id(wire.epoch_id(), "Over.epoch_id")};
  }
  RosterNode Of(const v1::RosterNode& wire) {
    RosterNode node{.node = Of(wire.node())};
    for (const v1::Seat& seat : wire.seats()) {
      node.seats.push_back({.rank = RankOf(seat.rank(), "Seat.rank"), .join = seat.join()});
    }
    return node;
  }
  Roster Of(const v1::Roster& wire) {
    AtMost(wire.nodes(), kRanksMax, "Roster.nodes");
    Roster roster{.epoch_id = Id(wire.epoch_id(), "Roster.epoch_id"),
                  .epoch = wire.epoch(),
                  .key = Of(wire.key()),
                  .terms = Of(wire.terms())};
    size_t seats = 0;
    for (const v1::RosterNode& node : wire.nodes()) {
      Require(!node.seats().empty(), "none", "RosterNode.seats");
      seats += static_cast<size_t>(node.seats_size());
      roster.nodes.push_back(Of(node));
    }
    Require(seats == roster.terms.world_size, "not one for each rank", "Roster.nodes.seats");
    return roster;
  }
  Entered Of(const v1::Entered& wire) {
    return {.epoch_id = Id(wire.epoch_id(), "Entered.epoch_id"),
            .address = Text(wire.address(), kTextBytesMax, "Entered.address")};
  }
  Meet Of(const v1::Meet& wire) {
    AtMost(wire.addresses(), kRanksMax, "Meet.addresses");
    Meet meet{.epoch_id = Id(wire.epoch_id(), "Meet.epoch_id")};
    meet.addresses.assign(wire.addresses().begin(), wire.addresses().end());
    return meet;
  }
  Connected Of(const v1::Connected& wire) { return {Id(wire.epoch_id(), "Connected.epoch_id")}; }
  Live Of(const v1::Live& wire) { return {Id(wire.epoch_id(), "Live.epoch_id")}; }
  Report Of(const v1::Report& wire) {
    Report report{.epoch_id = Id(wire.epoch_id(), "Report.epoch_id"), .ending = Of(wire.ending())};
    if (wire.has_waiting_at()) report.waiting_at = Of(wire.waiting_at());
    return report;
  }
  Ended Of(const v1::Ended& wire) {
    return {.epoch_id = Id(wire.epoch_id(), "Ended.epoch_id"), .ending = Of(wire.ending())};
  }
  Gone Of(const v1::Gone& wire) { return {Id(wire.epoch_id(), "Gone.epoch_id")}; }
  Inquiry Of(const v1::Inquiry& wire) {
    return {.epoch_id = Id(wire.epoch_id(), "Inquiry.epoch_id"), .place = Of(wire.place())};
  }
  Answer Of(const v1::Answer& wire) {
    AtMost(wire.missing(), kRanksMax, "Answer.missing");
    Require(wire.doing_size() == wire.missing_size(), "not one for each rank", "Answer.doing");
    Answer answer{.epoch_id = Id(wire.epoch_id(), "Answer.epoch_id"), .place = Of(wire.place())};
    for (const uint32_t rank : wire.missing()) {
      answer.missing.push_back(RankOf(rank, "Answer.missing"));
    }
    answer.doing.assign(wire.doing().begin(), wire.doing().end());
    return answer;
  }
  Settled Of(const v1::Settled& wire) {
    return {.epoch_id = Id(wire.epoch_id(), "Settled.epoch_id"),
            .sequence = wire.sequence(),
            .value = wire.value()};
  }
  Registered Of(const v1::Registered& wire) {
    return {.epoch_id = Id(wire.epoch_id(), "Registered.epoch_id"),
            .epoch = wire.epoch(),
            .key = Of(wire.key()),
            .live = wire.live()};
  }
  Unregistered Of(const v1::Unregistered& wire) {
    return {Id(wire.epoch_id(), "Unregistered.epoch_id")};
  }
  Challenge Of(const v1::Challenge& wire) { return {Id(wire.epoch_id(), "Challenge.epoch_id")}; }
  SendReady Of(const v1::SendReady& wire) {
    const std::optional<DataType> dtype = FromProto(wire.dtype());
    Require(dtype.has_value(), "unknown", "SendReady.dtype");
    SendReady ready{.epoch_id = Id(wire.epoch_id(), "SendReady.epoch_id"),
                    .place = Of(wire.place()),
                    .dtype = dtype.value_or(DataType::kNone),
                    .count = wire.count()};
    if (wire.has_data()) ready.data = Text(wire.data(), kEagerSendBytesMax, "SendReady.data");
    if (wire.has_refused()) ready.refused = Of(wire.refused());
    return ready;
  }
  SendTaken Of(const v1::SendTaken& wire) {
    SendTaken taken{.epoch_id = Id(wire.epoch_id(), "SendTaken.epoch_id"),
                    .place = Of(wire.place())};
    if (wire.has_failure()) taken.failure = Of(wire.failure());
    return taken;
  }

  PeerMessage Of(const v1::PeerMessage& wire) {
    switch (wire.message_case()) {
      case v1::PeerMessage::kOffer:
        return Of(wire.offer());
      case v1::PeerMessage::kWithdraw:
        return Of(wire.withdraw());
      case v1::PeerMessage::kRefused:
        return Of(wire.refused());
      case v1::PeerMessage::kOver:
        return Of(wire.over());
      case v1::PeerMessage::kRoster:
        return Of(wire.roster());
      case v1::PeerMessage::kEntered:
        return Of(wire.entered());
      case v1::PeerMessage::kMeet:
        return Of(wire.meet());
      case v1::PeerMessage::kConnected:
        return Of(wire.connected());
      case v1::PeerMessage::kLive:
        return Of(wire.live());
      case v1::PeerMessage::kReport:
        return Of(wire.report());
      case v1::PeerMessage::kEnded:
        return Of(wire.ended());
      case v1::PeerMessage::kGone:
        return Of(wire.gone());
      case v1::PeerMessage::kInquiry:
        return Of(wire.inquiry());
      case v1::PeerMessage::kAnswer:
        return Of(wire.answer());
      case v1::PeerMessage::kSettled:
        return Of(wire.settled());
      case v1::PeerMessage::kRegistered:
        return Of(wire.registered());
      case v1::PeerMessage::kUnregistered:
        return Of(wire.unregistered());
      case v1::PeerMessage::kChallenge:
        return Of(wire.challenge());
      case v1::PeerMessage::kSendReady:
        return Of(wire.send_ready());
      case v1::PeerMessage::kSendTaken:
        return Of(wire.send_taken());
      case v1::PeerMessage::MESSAGE_NOT_SET:
        break;
    }
    Problem("unknown kind", "PeerMessage");
    return {};
  }

  Hello Of(const v1::LinkHello& wire) {
    return {.protocol_version = wire.protocol_version(),
            .node = Of(wire.node()),
            .expected = IdOrEmpty(wire.expected_id(), "LinkHello.expected_id"),
            .attempt = wire.attempt(),
            .answered_attempt = wire.answered_attempt()};
  }
  LinkEnd Of(const v1::LinkEnd& wire) {
    // One of a newer daemon is some reason, too.
    const bool known = v1::LinkEndReason_IsValid(wire.reason());
    return {.reason = known ? static_cast<LinkEndReason>(wire.reason()) : LinkEndReason::kOther,
            .text = Text(wire.text(), kTextBytesMax, "LinkEnd.text")};
  }
  Introduction Of(const v1::LinkIntroduction& wire) {
    Introduction introduction{.node = Of(wire.node())};
    if (wire.has_seed()) introduction.seed = Of(wire.seed());
    return introduction;
  }
  LinkFrame Of(const v1::LinkFrame& wire) {
    switch (wire.frame_case()) {
      case v1::LinkFrame::kHello:
        return Of(wire.hello());
      case v1::LinkFrame::kWelcome:
        return Welcome{.node = Of(wire.welcome().node()), .attempt = wire.welcome().attempt()};
      case v1::LinkFrame::kIntroduction:
        return Of(wire.introduction());
      case v1::LinkFrame::kEnd:
        return Of(wire.end());
      case v1::LinkFrame::kMessage:
        return Of(wire.message());
      case v1::LinkFrame::FRAME_NOT_SET:
        break;
    }
    Problem("unknown kind", "LinkFrame");
    return {};
  }

  std::string problem_;
};

}  // namespace

absl::StatusOr<LinkFrame> FromProto(const v1::LinkFrame& frame) { return Reader().Read(frame); }

}  // namespace tutti
