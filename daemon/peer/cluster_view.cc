#include "daemon/peer/cluster_view.h"

#include <utility>

#include "daemon/peer/convert.h"
#include "proto/convert.h"

namespace tutti {
ClusterView::ClusterView(Options options)
    : options_(std::move(options)),
      known_(options_.clock, options_.self),
      calls_(options_.clock, options_.channel_credentials) {}

v1::Membership ClusterView::ShowMembership() const {
  const KnownNodes::View view = known_.view();
  v1::Membership membership;
  membership.set_join(options_.join);
  if (view.seed.has_value()) *membership.mutable_seed() = ToProto(*view.seed);
  membership.set_connected(view.connected);
  membership.set_since_ms(ToMilliseconds(options_.clock->Now() - view.since));
  membership.set_why(view.why_not);
  membership.set_links(static_cast<uint32_t>(view.linked.size()));
  return membership;
}

bool ClusterView::Look(absl::Duration wait, ClusterLook::Done done) {
  {
    MutexLock lock(&mutex_);
    if (looks_ == options_.looks_max) return false;
    ++looks_;
  }
  ClusterLook::Start(
      {.clock = options_.clock, .calls = &calls_, .known = &known_, .own_status = own_status_},
      {.wait = wait}, [this, done = std::move(done)](v1::GetClusterResponse response) {
        *response.mutable_membership() = ShowMembership();
        {
          MutexLock lock(&mutex_);
          --looks_;
        }
        done(std::move(response));
      });
  return true;
}

grpc::Status ClusterView::Answer(const v1::GetNodeRequest& request,
                                 v1::GetNodeResponse* answer) const {
  if (own_status_ == nullptr) return grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "");
  const KnownNodes::View view = known_.view();
  *answer->mutable_node() = ToProto(view.self);
  own_status_(answer->mutable_status());
  if (!request.with_others()) return grpc::Status::OK;
  for (const NodeInfo& node : view.linked) *answer->add_linked() = ToProto(node);
  const MonotonicTime now = options_.clock->Now();
  for (const KnownNodes::LostOne& one : view.lost) {
    v1::LostNode* const lost = answer->add_lost();
    *lost->mutable_node() = ToProto(one.node);
    lost->set_since_ms(ToMilliseconds(now - one.when));
    lost->set_why(one.why);
  }
  return grpc::Status::OK;
}

void ClusterView::Shutdown() {
  calls_.Cancel();
  calls_.Wait();
}

}  // namespace tutti
