#include "daemon/peer/seed_search.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace tutti {
SeedSearch::SeedSearch(Services services, Options options)
    : SeedFinder(std::move(services)), options_(std::move(options)), backoff_(self().id) {}

void SeedSearch::Start() {
  if (options_.join.empty()) return Find(self());
  Ask();
}

void SeedSearch::Stop() {
  state_ = State::kStopped;
  EndAsking();
}

// --- Asking ---

void SeedSearch::EndAsking() {
  if (stream_ != 0) services().streams->End(std::exchange(stream_, 0), std::nullopt);
}

void SeedSearch::Ask() {
  state_ = State::kAsking;
  stream_ = services().streams->Dial(options_.join, {.node = self()});
  services().loop->PostAt(services().clock->Now() + options_.ask_timeout, [this, stream = stream_] {
    if (!Owns(stream)) return;
    EndAsking();
    TryAgain(absl::StrCat("no answer within ", absl::FormatDuration(options_.ask_timeout)));
  });
}

void SeedSearch::Received(StreamId stream, LinkFrame frame) {
  if (!Owns(stream) || state_ == State::kStopped) return;
  const auto* const introduction = std::get_if<Introduction>(&frame);
  if (introduction != nullptr) FindOwnAddress(stream);
  EndAsking();
  if (introduction != nullptr) return HandleIntroduction(*introduction);
  const auto* const end = std::get_if<LinkEnd>(&frame);
  TryAgain(end != nullptr ? end->text : "an answer that is none");
}

void SeedSearch::Broke(StreamId stream, const std::string& why) {
  if (!Owns(stream)) return;
  stream_ = 0;
  TryAgain(why);
}

void SeedSearch::FindOwnAddress(StreamId stream) {
  if (!options_.port_of_own_address.has_value()) return;
  // Anew each time: it may change while the network does.
  const std::string host = services().streams->LocalHost(stream);
  if (host.empty()) return;
  const bool v6 = host.find(':') != std::string::npos;
  services().links->SetAddress(
      absl::StrCat(v6 ? "[" : "", host, v6 ? "]:" : ":", *options_.port_of_own_address));
}

void SeedSearch::HandleIntroduction(const Introduction& introduction) {
  if (introduction.node.id == self().id) return Find(self());
  if (!introduction.seed.has_value()) {
    return TryAgain(absl::StrCat(introduction.node.name, " is there, and looks for the seed"));
  }
  // It does not know yet that this is not so (any more).
  if (introduction.seed->id == self().id) return TryAgain("it takes this daemon for the seed");
  state_ = State::kLinking;
  seed_ = *introduction.seed;
  if (seed_.id == introduction.node.id && seed_.address.empty()) seed_.address = options_.join;
  if (services().links->IsUp(seed_.id)) return Find(seed_);
  services().links->Connect(seed_);
}

void SeedSearch::TryAgain(const std::string& why) {
  if (state_ == State::kStopped) return;
  state_ = State::kWaiting;
  Complain(options_.join, why);
  services().loop->PostAt(services().clock->Now() + backoff_.Next(), [this] {
    if (state_ == State::kWaiting) Ask();
  });
}

// --- The seed ---

void SeedSearch::Find(const NodeInfo& seed) {
  state_ = State::kFound;
  seed_ = seed;
  backoff_.Reset();
  Tell(seed_, options_.opens_after);
}

std::optional<NodeInfo> SeedSearch::seed() const {
  if (state_ != State::kFound) return std::nullopt;
  return seed_;
}

void SeedSearch::LinkIsUp(const NodeInfo& node) {
  if (state_ == State::kFound || state_ == State::kStopped || node.id != seed_.id) return;
  // Whoever once was the seed is it until its end: no need to ask.
  EndAsking();
  Find(node);
}

void SeedSearch::LinkIsDown(const NodeInfo& node) {
  if (state_ != State::kLinking && state_ != State::kFound) return;
  if (node.id == seed_.id) TryAgain("the link to the seed is lost");
}

}  // namespace tutti
