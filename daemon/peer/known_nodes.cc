#include "daemon/peer/known_nodes.h"

#include <algorithm>
#include <utility>

namespace tutti {
namespace {

// Silent nodes that are remembered; when there are more, all are forgotten, and their silence
// seems to begin again.
constexpr size_t kSilentMax = 4096;

std::string HostOf(const NodeInfo& node) { return node.address.substr(0, node.address.rfind(':')); }

}  // namespace

KnownNodes::KnownNodes(const Clock* clock, NodeInfo self)
    : clock_(clock), self_(std::move(self)), since_(clock->Now()) {}

void KnownNodes::SelfIs(const NodeInfo& self) {
  MutexLock lock(&mutex_);
  self_ = self;
}

void KnownNodes::SeedIs(const NodeInfo& seed) {
  MutexLock lock(&mutex_);
  const bool as_before = connected_ && seed_->id == seed.id;
  seed_ = seed;
  connected_ = true;
  why_not_.clear();
  if (!as_before) since_ = clock_->Now();
}

void KnownNodes::LooksForSeed(const std::string& why) {
  MutexLock lock(&mutex_);
  if (connected_) since_ = clock_->Now();
  connected_ = false;
  why_not_ = why;
}

void KnownNodes::LinkIsUp(const NodeInfo& node) {
  MutexLock lock(&mutex_);
  silent_.erase(node.id);
  const bool known = linked_.count(node.id) > 0;
  linked_[node.id] = node;
  const auto itself = std::find_if(lost_.begin(), lost_.end(),
                                   [&](const LostOne& one) { return one.node.id == node.id; });
  if (itself != lost_.end()) {
    lost_.erase(itself);
    return;
  }
  if (known) return;
  // A daemon that is restarted is another one: it has taken the place of the one that was lost.
  std::erase_if(lost_, [&](const LostOne& one) {
    return one.node.name == node.name && HostOf(one.node) == HostOf(node);
  });
}

void KnownNodes::LinkIsDown(const NodeInfo& node, const LinkEnd& why) {
  MutexLock lock(&mutex_);
  silent_.erase(node.id);
  if (linked_.erase(node.id) == 0 || why.reason == LinkEndReason::kShutdown) return;
  // It may have been replaced before its loss was noticed; two can't listen at one address.
  const bool replaced = std::any_of(linked_.begin(), linked_.end(), [&](const auto& other) {
    return !node.address.empty() && other.second.address == node.address;
  });
  if (replaced) return;
  lost_.insert(lost_.begin(), LostOne{.node = node, .when = clock_->Now(), .why = why.text});
  if (lost_.size() > kLostMax) lost_.pop_back();
}

MonotonicTime KnownNodes::AskedInVain(const NodeId& node, MonotonicTime when) {
  MutexLock lock(&mutex_);
  if (silent_.size() >= kSilentMax && silent_.count(node) == 0) silent_.clear();
  return silent_.emplace(node, when).first->second;
}

void KnownNodes::Answered(const NodeId& node) {
  MutexLock lock(&mutex_);
  silent_.erase(node);
}

KnownNodes::View KnownNodes::view() const {
  const MonotonicTime oldest = clock_->Now() - kLostFor;
  MutexLock lock(&mutex_);
  View view{.self = self_,
            .seed = seed_,
            .connected = connected_,
            .since = since_,
            .why_not = why_not_,
            .linked = {},
            .lost = {}};
  for (const auto& [id, node] : linked_) view.linked.push_back(node);
  std::copy_if(lost_.begin(), lost_.end(), std::back_inserter(view.lost),
               [&](const LostOne& one) { return one.when >= oldest; });
  return view;
}

}  // namespace tutti
