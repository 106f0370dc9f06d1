// Elects the seed, so that the cluster survives the loss of any node: whoever claims it first in a
// store that all daemons share is it, until it ends, or cannot renew the claim in time.
//
//   Look ──nobody──► Claim ──ours──► Renew, Renew... ──lapsed, refused──► Look
//     └──somebody──► link to it ──► SeedIs, and Look again each second
//
// A seed that cannot renew its claim stops before the claim lapses, by its own clock from before it
// asked (a lease, as in C. Gray and D. Cheriton, "Leases", SOSP 1989). Should that clock be slow,
// two may introduce for a moment; they cannot split a group, as its coordinator decides about that
// (docs/adr/0017).
//
// Thread: everything on the control loop.
#pragma once

#include <optional>
#include <string>

#include "daemon/peer/seed_finder.h"
#include "daemon/peer/seed_store.h"

namespace tutti {

class ElectedSeed final : public SeedFinder {
 public:
  struct Options {
    // A seed that comes after another has to be told what that one knew: longer than others need to
    // learn of it.
    absl::Duration opens_after = absl::Seconds(5);
    // Also while there is a link to the seed: it may be no more, and not know it yet.
    absl::Duration look_every = absl::Seconds(1);
  };

  // `store` must outlive this.
  ElectedSeed(Services services, SeedStore* store, Options options);

  void Start() override;
  void Stop() override;

  // It asks no daemon.
  bool Owns(StreamId) const override { return false; }
  void Received(StreamId, LinkFrame) override {}
  void Broke(StreamId, const std::string&) override {}

  void LinkIsUp(const NodeInfo& node) override;
  void LinkIsDown(const NodeInfo& node) override;

 private:
  std::optional<NodeInfo> seed() const override;
  bool is_seed() const { return found_ && seed_.id == self().id; }

  // Asks the store, after a time; what was to be asked before that is forgotten.
  void TurnAfter(absl::Duration wait);
  void Turn();
  void Handle(MonotonicTime asked, const SeedStore::Answer& answer);
  void Hold(MonotonicTime asked, const SeedStore::Answer& answer);
  void Lapse(const std::string& why);
  void Follow(const SeedStore::Answer& answer);
  // None is known.
  void Lose(const std::string& why);

  SeedStore* const store_;
  const Options options_;
  bool stopped_ = false;
  bool asking_ = false;
  uint64_t turns_ = 0;
  // Resigned since the question was put: what it says of our claim is not true any more.
  bool resigned_ = false;
  bool vacant_ = false;     // nobody had a claim, when that was asked last
  std::string last_error_;  // of the store, when it was asked last
  NodeInfo seed_;           // whom the store named last
  int64_t term_ = 0;
  bool found_ = false;  // there is a link to it, or it is this node
  MonotonicTime valid_until_ = absl::InfinitePast();
  Backoff backoff_;
};

}  // namespace tutti
