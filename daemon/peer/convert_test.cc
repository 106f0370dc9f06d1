#include "daemon/peer/convert.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

namespace tutti {
namespace {

const std::string kId(16, '\x07');
const std::string kOtherId = "0123456789abcdef";
const NodeInfo kNode{.id = kOtherId, .name = "nöde", .address = "10.0.0.7:7411"};
const GroupKey kKey{"job 1", "dp"};
const GroupTerms kTerms{.world_size = 3, .backend = "auto", .work_timeout = absl::Seconds(90)};
const Place kPlace{.sequence = 9, .pairwise = true, .source = 2, .destination = 1};
const Failure kFailure{.cause = Cause::kRankDied,
                       .message = "rank 1 died",
                       .group = "dp",
                       .epoch = 4,
                       .culprits = {1},
                       .missing = {0, 2},
                       .sequence = 8};
const Ending kEnding{.failure = kFailure,
                     .closed = true,
                     .leaver = 1,
                     .last = 7,
                     .pairs = {{.source = 1, .destination = 0, .last = 5}},
                     .completed_through = 6};
const Roster kRoster{
    .epoch_id = kId,
    .epoch = 4,
    .key = kKey,
    .terms = kTerms,
    .nodes = {
        {.node = kNode, .seats = {{.rank = 0, .join = 11}, {.rank = 2, .join = 12}}},
        {.node = {.id = kId, .name = "b", .address = ""}, .seats = {{.rank = 1, .join = 1}}}}};

// One of each kind, with every field set; in the order of the variant.
std::vector<PeerMessage> AllMessages() {
  return {Offer{.join = 3,
                .key = kKey,
                .rank = 2,
                .terms = kTerms,
                .time_left = absl::Milliseconds(1500),
                .who = "pid 7",
                .last_epoch = 3,
                .over = kOtherId},
          Withdraw{.join = 3, .key = kKey},
          Refused{.join = 3, .failure = kFailure},
          Over{.join = 3, .epoch_id = kId},
          kRoster,
          Entered{.epoch_id = kId, .address = "10.0.0.7:9000"},
          Meet{.epoch_id = kId, .addresses = {"a", "", "c"}},
          Connected{.epoch_id = kId},
          Live{.epoch_id = kId},
          Report{.epoch_id = kId, .ending = kEnding, .waiting_at = kPlace},
          Ended{.epoch_id = kId, .ending = kEnding},
          Gone{.epoch_id = kId},
          Inquiry{.epoch_id = kId, .place = kPlace},
          Answer{.epoch_id = kId, .place = kPlace, .missing = {0, 2}, .doing = {"x", "y"}},
          Settled{.epoch_id = kId, .sequence = 5, .value = true},
          Registered{.epoch_id = kId, .epoch = 4, .key = kKey, .live = true},
          Unregistered{.epoch_id = kId},
          Challenge{.epoch_id = kId},
          SendReady{.epoch_id = kId,
                    .place = kPlace,
                    .dtype = DataType::kFloat32,
                    .count = 2,
                    .data = std::string("\0\x01\xff", 3),
                    .refused = kFailure},
          SendTaken{.epoch_id = kId, .place = kPlace, .failure = kFailure}};
}

std::vector<LinkFrame> AllFrames() {
  std::vector<LinkFrame> frames = {Hello{.protocol_version = 7,
                                         .node = kNode,
                                         .expected = kId,
                                         .attempt = 5,
                                         .answered_attempt = 3},
                                   Hello{.node = kNode},
                                   Welcome{.node = kNode, .attempt = 9},
                                   Introduction{.node = kNode, .seed = kNode},
                                   Introduction{.node = kNode},
                                   LinkEnd{.reason = LinkEndReason::kCrossed, .text = "crossed"}};
  for (PeerMessage& message : AllMessages()) frames.emplace_back(std::move(message));
  // What may be absent.
  frames.emplace_back(PeerMessage(Offer{.key = kKey, .terms = kTerms}));
  frames.emplace_back(PeerMessage(Report{.epoch_id = kId, .ending = {.failure = kFailure}}));
  frames.emplace_back(PeerMessage(SendReady{.epoch_id = kId}));
  frames.emplace_back(PeerMessage(SendReady{.epoch_id = kId, .data = ""}));
  frames.emplace_back(PeerMessage(SendTaken{.epoch_id = kId}));
  return frames;
}

TEST_CASE("every frame comes back as it was") {
  CHECK(AllMessages().size() == std::variant_size_v<PeerMessage>);
  for (size_t i = 0; i < AllMessages().size(); ++i) CHECK(AllMessages()[i].index() == i);
  for (const LinkFrame& frame : AllFrames()) {
    const v1::LinkFrame wire = ToProto(frame);
    INFO(wire.DebugString());
    // Over the wire.
    v1::LinkFrame arrived;
    REQUIRE(arrived.ParseFromString(wire.SerializeAsString()));
    const absl::StatusOr<LinkFrame> back = FromProto(arrived);
    REQUIRE(back.ok());
    CHECK(*back == frame);
  }
}

TEST_CASE("times are whole milliseconds, rounded up; what has passed is zero; none is for ever") {
  const auto time_left = [](absl::Duration duration) {
    const Offer offer{.key = kKey, .terms = kTerms, .time_left = duration};
    const absl::StatusOr<LinkFrame> back = FromProto(ToProto(PeerMessage(offer)));
    REQUIRE(back.ok());
    return std::get<Offer>(std::get<PeerMessage>(*back)).time_left;
  };
  CHECK(time_left(absl::Microseconds(1)) == absl::Milliseconds(1));
  CHECK(time_left(absl::ZeroDuration()) == absl::ZeroDuration());
  CHECK(time_left(-absl::Seconds(3)) == absl::ZeroDuration());
  Offer offer{.key = kKey, .terms = kTerms, .time_left = absl::InfiniteDuration()};
  CHECK_FALSE(FromProto(ToProto(PeerMessage(offer))).ok());
}

// Why `wire` is refused.
std::string Refusal(const v1::LinkFrame& wire) {
  const absl::StatusOr<LinkFrame> back = FromProto(wire);
  CHECK(absl::IsInvalidArgument(back.status()));
  return std::string(back.status().message());
}

TEST_CASE("what this build does not know is refused, but for reasons to end a link") {
  CHECK(Refusal({}) == "unknown kind: LinkFrame");
  v1::LinkFrame frame;
  frame.mutable_message();
  CHECK(Refusal(frame) == "unknown kind: PeerMessage");
  frame = ToProto(PeerMessage(SendReady{.epoch_id = kId}));
  frame.mutable_message()->mutable_send_ready()->set_dtype(static_cast<v1::DataType>(99));
  CHECK(Refusal(frame) == "unknown: SendReady.dtype");
  frame.mutable_end()->set_reason(static_cast<v1::LinkEndReason>(99));
  const absl::StatusOr<LinkFrame> end = FromProto(frame);
  REQUIRE(end.ok());
  CHECK(std::get<LinkEnd>(*end).reason == LinkEndReason::kOther);
}

TEST_CASE("an id that has not 16 bytes is refused, wherever it is") {
  for (const LinkFrame& frame : AllFrames()) {
    v1::LinkFrame wire = ToProto(frame);
    std::string bytes = wire.SerializeAsString();
    for (const std::string& id : {kId, kOtherId}) {
      const size_t at = bytes.find(id);
      if (at == std::string::npos || wire.has_end()) continue;
      INFO(wire.DebugString());
      // The same bytes, with one of the id given to an unknown field behind it: 13 fewer and a
      // field of 11 bytes in their place.
      std::string shorter = bytes;
      shorter[at - 1] = 3;
      shorter.replace(at + 3, 13, std::string("\x7a\x0b") + std::string(11, 'x'));
      v1::LinkFrame cut;
      REQUIRE(cut.ParseFromString(shorter));
      CHECK(Refusal(cut).find("an id has 16 bytes") == 0);
    }
  }
}

TEST_CASE("numbers and lists that cannot be are refused") {
  const auto refused = [](PeerMessage message) { return Refusal(ToProto(std::move(message))); };
  Roster roster = kRoster;
  roster.terms.world_size = 70'000;
  CHECK(refused(roster) == "out of bounds: GroupTerms.world_size");
  roster.terms.world_size = 0;
  CHECK(refused(roster) == "out of bounds: GroupTerms.world_size");
  roster.terms.world_size = 4;
  CHECK(refused(roster) == "not one for each rank: Roster.nodes.seats");
  roster = kRoster;
  roster.nodes[1].seats.clear();
  CHECK(refused(roster) == "none: RosterNode.seats");
  roster = kRoster;
  roster.nodes[0].seats[0].rank = 65'536;
  CHECK(refused(roster) == "no rank: Seat.rank");
  Answer answer{.epoch_id = kId, .missing = {1, 2}, .doing = {"x"}};
  CHECK(refused(answer) == "not one for each rank: Answer.doing");
  answer.missing.assign(65'537, 1);
  answer.doing.assign(65'537, "");
  CHECK(refused(answer) == "too many: Answer.missing");
  SendReady send{.epoch_id = kId, .data = std::string(65'537, 'x')};
  CHECK(refused(send) == "too long: SendReady.data");
  CHECK(refused(Withdraw{.key = {"", std::string(257, 'x')}}) == "too long: GroupKey.name");
}

TEST_CASE("bytes that are flipped or cut are refused or understood, and never a crash") {
  for (const LinkFrame& frame : AllFrames()) {
    const std::string bytes = ToProto(frame).SerializeAsString();
    for (size_t i = 0; i < bytes.size(); ++i) {
      v1::LinkFrame wire;
      if (wire.ParseFromString(bytes.substr(0, i))) (void)FromProto(wire);
      for (int bit = 0; bit < 8; ++bit) {
        std::string flipped = bytes;
        flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
        if (wire.ParseFromString(flipped)) (void)FromProto(wire);
      }
    }
  }
}

}  // namespace
}  // namespace tutti
