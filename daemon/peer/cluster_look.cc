#include "daemon/peer/cluster_look.h"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/peer/convert.h"
#include "proto/convert.h"

namespace tutti {
namespace {

NodeInfo Read(const v1::Node& node) {
  return {.id = node.id(), .name = node.name(), .address = node.address()};
}

}  // namespace

void ClusterLook::Start(const Services& services, const Options& options, Done done) {
  const std::shared_ptr<ClusterLook> look(new ClusterLook(services, options, std::move(done)));
  look->Begin();
}

ClusterLook::ClusterLook(const Services& services, const Options& options, Done done)
    : services_(services),
      options_(options),
      view_(services.known->view()),
      began_(services.clock->Now()),
      done_(std::move(done)) {}

// --- Who there is ---

void ClusterLook::Begin() {
  const bool ask_seed = view_.connected && !view_.is_seed();
  {
    MutexLock lock(&mutex_);
    rows_.push_back(Row{.node = view_.self, .state = v1::NODE_STATE_ANSWERED});
    services_.own_status(&rows_.back().status);
    if (ask_seed) rows_.push_back(Row{.node = *view_.seed, .asked = began_});
    for (const Row& row : rows_) listed_.insert(row.node.id);
    next_ = rows_.size();
    if (!view_.connected) {
      seed_silent_ = view_.why_not.empty() ? "it has not been found yet" : view_.why_not;
    }
  }
  if (!ask_seed) return AskOthers(view_.linked, OwnLost());
  services_.calls->Ask(
      *view_.seed, /*with_others=*/true, began_ + options_.wait / 2,
      [self = shared_from_this()](NodeReply reply) { self->HandleSeed(std::move(reply)); });
}

void ClusterLook::HandleSeed(NodeReply reply) {
  // Besides those it knows, whoever is linked to this daemon and not to the seed (any more).
  std::vector<NodeInfo> linked = view_.linked;
  std::vector<Row> lost;
  const v1::GetNodeResponse answer = reply.answer;
  bool knows = false;
  {
    MutexLock lock(&mutex_);
    Row& seed = rows_.back();
    Note(&seed, std::move(reply));
    knows = seed.state == v1::NODE_STATE_ANSWERED;
    const bool too_old = seed.state == v1::NODE_STATE_TOO_OLD;
    if (!knows) seed_silent_ = too_old ? "its version is too old to say" : seed.why;
  }
  if (!knows) return AskOthers(linked, OwnLost());
  for (const v1::Node& node : answer.linked()) linked.push_back(Read(node));
  for (const v1::LostNode& one : answer.lost()) {
    lost.push_back({.node = Read(one.node()),
                    .state = v1::NODE_STATE_LOST,
                    .silent_for = absl::Milliseconds(static_cast<int64_t>(one.since_ms())),
                    .why = one.why()});
  }
  AskOthers(linked, std::move(lost));
}

std::vector<ClusterLook::Row> ClusterLook::OwnLost() const {
  std::vector<Row> lost;
  for (const KnownNodes::LostOne& one : view_.lost) {
    lost.push_back({.node = one.node,
                    .state = v1::NODE_STATE_LOST,
                    .silent_for = began_ - one.when,
                    .why = one.why});
  }
  return lost;
}

void ClusterLook::AskOthers(const std::vector<NodeInfo>& linked, std::vector<Row> lost) {
  std::vector<Row> others;
  for (const NodeInfo& node : linked) others.push_back({.node = node});
  std::sort(others.begin(), others.end(), [](const Row& a, const Row& b) {
    return std::tie(a.node.name, a.node.address) < std::tie(b.node.name, b.node.address);
  });
  std::move(lost.begin(), lost.end(), std::back_inserter(others));
  {
    MutexLock lock(&mutex_);
    for (Row& row : others) {
      if (!listed_.insert(row.node.id).second) continue;
      if (rows_.size() < options_.nodes_max) {
        rows_.push_back(std::move(row));
      } else {
        ++left_out_;
      }
    }
  }
  AskAll();
}

// --- How they are ---

void ClusterLook::AskAll() {
  {
    MutexLock lock(&mutex_);
    if (asking_) return;
    asking_ = true;
  }
  bool over = false;
  while (const std::optional<Question> question = Next(&over)) {
    services_.calls->Ask(question->node, /*with_others=*/false, began_ + options_.wait,
                         [self = shared_from_this(), row = question->row](NodeReply reply) {
                           self->Handle(row, std::move(reply));
                         });
  }
  if (over) done_(Result());
}

std::optional<ClusterLook::Question> ClusterLook::Next(bool* over) {
  MutexLock lock(&mutex_);
  while (next_ < rows_.size() && waiting_for_ < options_.calls_max) {
    Row& row = rows_[next_++];
    row.asked = services_.clock->Now();
    if (row.state == v1::NODE_STATE_LOST || row.asked >= began_ + options_.wait) continue;
    ++waiting_for_;
    return Question{.row = next_ - 1, .node = row.node};
  }
  *over = next_ == rows_.size() && waiting_for_ == 0;
  asking_ = *over;
  return std::nullopt;
}

void ClusterLook::Handle(size_t row, NodeReply reply) {
  {
    MutexLock lock(&mutex_);
    Note(&rows_[row], std::move(reply));
    --waiting_for_;
  }
  AskAll();
}

void ClusterLook::Note(Row* row, NodeReply reply) const {
  if (reply.kind == NodeReply::Kind::kAnswered && reply.answer.node().id() != row->node.id) {
    reply = {.kind = NodeReply::Kind::kSilent, .why = "another daemon is at its address now"};
  }
  if (reply.kind == NodeReply::Kind::kSilent) {
    row->state = v1::NODE_STATE_SILENT;
    row->why = std::move(reply.why);
    row->silent_for =
        services_.clock->Now() - services_.known->AskedInVain(row->node.id, row->asked);
    return;
  }
  services_.known->Answered(row->node.id);
  const bool answered = reply.kind == NodeReply::Kind::kAnswered;
  row->state = answered ? v1::NODE_STATE_ANSWERED : v1::NODE_STATE_TOO_OLD;
  row->status = std::move(*reply.answer.mutable_status());
}

// --- What is shown ---

v1::ClusterNode ClusterLook::Show(const Row& row) const {
  v1::ClusterNode shown;
  *shown.mutable_node() = ToProto(row.node);
  shown.set_state(row.state);
  shown.set_seed(view_.seed.has_value() && row.node.id == view_.seed->id);
  shown.set_self(row.node.id == view_.self.id);
  shown.set_since_ms(ToMilliseconds(row.silent_for));
  shown.set_why(row.why);
  if (row.state == v1::NODE_STATE_ANSWERED) *shown.mutable_status() = row.status;
  return shown;
}

v1::GetClusterResponse ClusterLook::Result() {
  MutexLock lock(&mutex_);
  v1::GetClusterResponse result;
  result.set_seed_silent(seed_silent_);
  for (const Row& row : rows_) *result.add_nodes() = Show(row);
  result.set_left_out(static_cast<uint32_t>(left_out_));
  return result;
}

}  // namespace tutti
