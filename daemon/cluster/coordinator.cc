#include "daemon/cluster/coordinator.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/failpoint.h"
#include "base/log.h"

namespace tutti {

std::vector<Rank> RanksOf(const RosterNode& node) {
  std::vector<Rank> ranks;
  for (const Seat& seat : node.seats) ranks.push_back(seat.rank);
  return ranks;
}

Failure NodeLost(const Roster& roster, size_t node, const char* how, const std::string& why) {
  const RosterNode& lost = roster.nodes[node];
  return {
      .cause = Cause::kNodeLost,
      .message = absl::StrCat("group ", Quoted(roster.key.second), " (epoch ", roster.epoch,
                              "): node ", lost.node.name, " with ", DescribeRanks(RanksOf(lost)),
                              " ", how, ": ", why, "; join the group again to go on"),
      .group = roster.key.second,
      .epoch = roster.epoch,
      .culprits = RanksOf(lost)};
}

Coordinator::Coordinator(Roster roster, Services services)
    : roster_(std::move(roster)), services_(std::move(services)), nodes_(roster_.nodes.size()) {
  for (size_t node = 1; node < nodes_.size(); ++node) {
    services_.say(roster_.nodes[node].node, roster_);
  }
}

Coordinator::~Coordinator() {
  if (asking_.has_value() && asking_->deadline.has_value()) {
    services_.deadlines->Remove(*asking_->deadline);
  }
  if (suspicion_.has_value()) services_.deadlines->Remove(*suspicion_);
}

void Coordinator::SayToAll(const PeerMessage& message) {
  for (size_t node = 0; node < nodes_.size(); ++node) {
    if (!nodes_[node].lost) services_.say(roster_.nodes[node].node, message);
  }
}

void Coordinator::Heard(size_t node, const Entered& entered) {
  if (over_ || nodes_[node].address.has_value()) return;
  nodes_[node].address = entered.address;
  // The planted defect: whoever enters is introduced to all who are there.
  if (Mutated("coordinator.tell_often")) SayToAll(Connected{roster_.epoch_id});
  Meet meet{.epoch_id = roster_.epoch_id, .addresses = {}};
  for (const Node& each : nodes_) {
    if (!each.address.has_value()) return;
    meet.addresses.push_back(*each.address);
  }
  SayToAll(meet);
}

void Coordinator::Heard(size_t node, const Connected&) {
  if (over_ || live_) return;
  nodes_[node].connected = true;
  const bool all =
      std::all_of(nodes_.begin(), nodes_.end(), [](const Node& each) { return each.connected; });
  // The planted defect: it does not wait for the others.
  if (!all && !Mutated("coordinator.hasty")) return;
  live_ = true;
  SayToAll(Live{roster_.epoch_id});
}

void Coordinator::Heard(size_t node, const Report& report) {
  // The planted defect: each node is told what it has said itself.
  if (live_ && Mutated("coordinator.echo")) {
    return services_.say(roster_.nodes[node].node, Ended{roster_.epoch_id, report.ending});
  }
  // The first failure wins, also while it is being found out whom it is to name.
  if (over_ || asking_.has_value()) return;
  if (live_ && report.waiting_at.has_value()) return Ask(report);
  if (live_ && report.ending.closed) {
    Ending ending = report.ending;
    ending.completed_through = services_.completed();
    return SayToAll(Ended{roster_.epoch_id, std::move(ending)});
  }
  if (live_ && report.ending.failure.cause == Cause::kBackend) return Suspect(report.ending);
  End(report.ending);
}

void Coordinator::Suspect(const Ending& ending) {
  if (suspicion_.has_value()) return;
  suspicion_ = services_.deadlines->Add(services_.clock->Now() + kSuspicionTimeout, [this, ending] {
    suspicion_.reset();
    if (!over_ && !asking_.has_value()) End(ending);
  });
}

void Coordinator::Heard(size_t node, const Gone&) {
  nodes_[node].gone = true;
  const bool all = std::all_of(nodes_.begin(), nodes_.end(),
                               [](const Node& each) { return each.gone || each.lost; });
  if (!all || over_) return;
  // Only now may they take down what connects them: none needs the others any more.
  End({.failure = {.cause = Cause::kRankLeft,
                   .message = absl::StrCat("group ", Quoted(roster_.key.second), " (epoch ",
                                           roster_.epoch, "): all ranks have left"),
                   .group = roster_.key.second,
                   .epoch = roster_.epoch}});
}

void Coordinator::Lost(size_t node, const std::string& why) {
  if (nodes_[node].lost) return;
  nodes_[node].lost = true;
  if (over_) return;
  if (asking_.has_value()) return CheckAnswers();
  if (nodes_[node].gone) return;  // nobody needs it
  End({.failure = NodeLost(roster_, node, "was lost", why)});
}

void Coordinator::Settle(uint64_t sequence, bool value) {
  if (live_ && !over_) SayToAll(Settled{roster_.epoch_id, sequence, value});
}

void Coordinator::Ask(const Report& report) {
  asking_.emplace(Asking{.ending = report.ending,
                         .place = *report.waiting_at,
                         .answers = std::vector<std::optional<Answer>>(nodes_.size()),
                         .deadline = {}});
  asking_->deadline = services_.deadlines->Add(services_.clock->Now() + kInquiryTimeout, [this] {
    asking_->deadline.reset();
    Conclude();
  });
  SayToAll(Inquiry{roster_.epoch_id, asking_->place});
}

void Coordinator::Heard(size_t node, const Answer& answer) {
  if (!asking_.has_value() || answer.place != asking_->place) return;
  asking_->answers[node] = answer;
  CheckAnswers();
}

void Coordinator::CheckAnswers() {
  for (size_t node = 0; node < nodes_.size(); ++node) {
    const bool expected = !nodes_[node].lost && !nodes_[node].gone;
    if (expected && !asking_->answers[node].has_value()) return;
  }
  Conclude();
}

std::string Coordinator::NotArrived(const Asking& asking, std::vector<Rank>* missing) const {
  std::vector<std::string> doing;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const RosterNode& node = roster_.nodes[i];
    if (asking.answers[i].has_value()) {
      const Answer& answer = *asking.answers[i];
      missing->insert(missing->end(), answer.missing.begin(), answer.missing.end());
      for (const std::string& each : answer.doing) {
        doing.push_back(absl::StrCat(each, ", on node ", node.node.name));
      }
    } else {
      const std::vector<Rank> ranks = RanksOf(node);
      missing->insert(missing->end(), ranks.begin(), ranks.end());
      const char* const how = nodes_[i].gone   ? ": left the group, on node "
                              : nodes_[i].lost ? ": were on node that was lost, "
                                               : ": do not answer, on node ";
      doing.push_back(absl::StrCat(DescribeRanks(ranks), how, node.node.name));
    }
  }
  if (doing.empty()) return "all ranks have arrived, but the exchange between the nodes hangs";
  return absl::StrCat("not arrived: ", absl::StrJoin(doing, "; "));
}

void Coordinator::Conclude() {
  Asking asking = *std::exchange(asking_, std::nullopt);
  if (asking.deadline.has_value()) services_.deadlines->Remove(*asking.deadline);
  Failure& failure = asking.ending.failure;
  failure.missing.clear();
  absl::StrAppend(&failure.message, "; ", NotArrived(asking, &failure.missing));
  std::sort(failure.missing.begin(), failure.missing.end());
  End(std::move(asking.ending));
}

void Coordinator::End(Ending ending) {
  over_ = true;
  ending.closed = false;
  ending.completed_through = live_ ? services_.completed() : 0;
  if (ending.completed_through > 0) {
    absl::StrAppend(&ending.failure.message, "; collectives up to #", ending.completed_through,
                    " are complete on all nodes");
  }
  SayToAll(Ended{roster_.epoch_id, std::move(ending)});
}

}  // namespace tutti
