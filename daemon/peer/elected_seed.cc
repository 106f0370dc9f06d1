#include "daemon/peer/elected_seed.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace tutti {
namespace {

// So often within the time that a claim lasts it is renewed.
constexpr int kRenewals = 3;
// This part of that time is left to clocks that do not agree on how long a second is.
constexpr int kDriftPart = 10;

}  // namespace

ElectedSeed::ElectedSeed(Services services, SeedStore* store, Options options)
    : SeedFinder(std::move(services)), store_(store), options_(options), backoff_(self().id) {}

void ElectedSeed::Start() { TurnAfter(absl::ZeroDuration()); }

void ElectedSeed::Stop() {
  stopped_ = true;
  if (is_seed()) store_->Resign();
  store_->Stop();
}

std::optional<NodeInfo> ElectedSeed::seed() const {
  if (!found_) return std::nullopt;
  return seed_;
}

// --- Asking the store ---

void ElectedSeed::TurnAfter(absl::Duration wait) {
  services().loop->PostAt(services().clock->Now() + wait, [this, turn = ++turns_] {
    if (turn == turns_) Turn();
  });
}

void ElectedSeed::Turn() {
  if (stopped_ || asking_) return;
  asking_ = true;
  resigned_ = false;
  const bool claim = std::exchange(vacant_, false);
  auto done = [this, asked = services().clock->Now()](const SeedStore::Answer& answer) {
    asking_ = false;
    if (!stopped_) Handle(asked, answer);
  };
  if (is_seed()) return store_->Renew(std::move(done));
  if (claim) return store_->Claim(self(), std::move(done));
  store_->Look(std::move(done));
}

void ElectedSeed::Handle(MonotonicTime asked, const SeedStore::Answer& answer) {
  last_error_ = answer.error;
  if (!answer.error.empty()) {
    if (!found_) Lose(answer.error);
    return TurnAfter(backoff_.Next());
  }
  if (resigned_) return TurnAfter(absl::ZeroDuration());
  if (answer.ours) return Hold(asked, answer);
  if (is_seed()) Lapse("the claim of this daemon is gone");
  vacant_ = !answer.seed.has_value();
  if (vacant_) return TurnAfter(absl::ZeroDuration());
  Follow(answer);
  TurnAfter(found_ ? options_.look_every : backoff_.Next());
}

// --- Being it ---

void ElectedSeed::Hold(MonotonicTime asked, const SeedStore::Answer& answer) {
  const absl::Duration lasts = store_->lasts();
  valid_until_ = asked + lasts - lasts / kDriftPart;
  if (services().clock->Now() >= valid_until_) return Lapse("its claim was confirmed too late");
  services().loop->PostAt(valid_until_, [this, until = valid_until_] {
    if (!is_seed() || valid_until_ != until) return;
    Lapse(absl::StrCat("its claim could not be renewed in time (", last_error_, ")"));
  });
  TurnAfter(lasts / kRenewals);
  backoff_.Reset();
  if (is_seed()) return;
  seed_ = self();
  term_ = answer.term;
  found_ = true;
  Tell(seed_, answer.first ? absl::ZeroDuration() : options_.opens_after);
}

void ElectedSeed::Lapse(const std::string& why) {
  resigned_ = true;
  store_->Resign();
  Lose(absl::StrCat("this daemon was the seed, and is it no more: ", why));
  TurnAfter(absl::ZeroDuration());
}

// --- Knowing it ---

void ElectedSeed::Lose(const std::string& why) {
  found_ = false;
  Complain(store_->name(), why);
}

void ElectedSeed::Follow(const SeedStore::Answer& answer) {
  if (found_ && answer.term == term_) return;
  const bool another = answer.term != term_;
  seed_ = *answer.seed;
  term_ = answer.term;
  if (seed_.id == self().id) return Lose("an old claim of this daemon has to lapse first");
  // The same daemon may have been elected again: it has forgotten what it was told.
  if (services().links->IsUp(seed_.id)) return LinkIsUp(seed_);
  if (found_ || another) Lose(absl::StrCat(seed_.name, " is the seed: not linked to it yet"));
  services().links->Connect(seed_);
}

void ElectedSeed::LinkIsUp(const NodeInfo& node) {
  if (stopped_ || seed_.id.empty() || node.id != seed_.id) return;
  found_ = true;
  backoff_.Reset();
  Tell(seed_, options_.opens_after);
  TurnAfter(options_.look_every);
}

void ElectedSeed::LinkIsDown(const NodeInfo& node) {
  if (stopped_ || node.id != seed_.id || seed_.id.empty()) return;
  Lose(found_ ? "the link to the seed is lost"
              : absl::StrCat(node.name, ", which is the seed, can't be reached"));
  TurnAfter(backoff_.Next());
}

}  // namespace tutti
