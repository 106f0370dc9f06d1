#include "daemon/peer/seed_search.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace tutti {
namespace {

// A daemon that is restarted is found within half a second; and a thousand that look for it ask
// some 3000 times in a second, which takes it a tenth of that.
constexpr absl::Duration kBackoffMin = absl::Milliseconds(50);
constexpr absl::Duration kBackoffMax = absl::Milliseconds(500);

// Ids are random: daemons that have lost the seed together do not come back together.
std::mt19937_64 SeededBy(const NodeId& id) {
  std::seed_seq seed(id.begin(), id.end());
  return std::mt19937_64(seed);
}

}  // namespace

SeedSearch::SeedSearch(Services services, Options options)
    : services_(std::move(services)),
      options_(std::move(options)),
      backoff_(kBackoffMin),
      random_(SeededBy(services_.links->self().id)) {}

void SeedSearch::Start() {
  if (options_.join.empty()) return Find(services_.links->self());
  Ask();
}

void SeedSearch::Stop() {
  state_ = State::kStopped;
  EndAsking();
}

// --- Asking ---

void SeedSearch::EndAsking() {
  if (stream_ != 0) services_.streams->End(std::exchange(stream_, 0), std::nullopt);
}

void SeedSearch::Ask() {
  state_ = State::kAsking;
  stream_ = services_.streams->Dial(options_.join, {.node = services_.links->self()});
  services_.loop->PostAt(services_.clock->Now() + options_.ask_timeout, [this, stream = stream_] {
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
  const std::string host = services_.streams->LocalHost(stream);
  if (host.empty()) return;
  const bool v6 = host.find(':') != std::string::npos;
  services_.links->SetAddress(
      absl::StrCat(v6 ? "[" : "", host, v6 ? "]:" : ":", *options_.port_of_own_address));
}

void SeedSearch::HandleIntroduction(const Introduction& introduction) {
  const NodeInfo& self = services_.links->self();
  if (introduction.node.id == self.id) return Find(self);
  if (!introduction.seed.has_value()) {
    return TryAgain(absl::StrCat(introduction.node.name, " is there, and looks for the seed"));
  }
  // It does not know yet that this is not so (any more).
  if (introduction.seed->id == self.id) return TryAgain("it takes this daemon for the seed");
  state_ = State::kLinking;
  seed_ = *introduction.seed;
  if (seed_.id == introduction.node.id && seed_.address.empty()) seed_.address = options_.join;
  if (services_.links->IsUp(seed_.id)) return Find(seed_);
  services_.links->Connect(seed_);
}

void SeedSearch::TryAgain(const std::string& why) {
  if (state_ == State::kStopped) return;
  state_ = State::kWaiting;
  if (why != last_why_) {
    LogWarning("seed.unreachable join={} why={}", Quoted(options_.join), Quoted(why));
    last_why_ = why;
  }
  services_.looks(why);
  // Half of it and up to all of it.
  const int64_t half_ns = absl::ToInt64Nanoseconds(backoff_ / 2);
  const auto jitter_ns = static_cast<int64_t>(random_() % static_cast<uint64_t>(half_ns));
  backoff_ = std::min(2 * backoff_, kBackoffMax);
  services_.loop->PostAt(services_.clock->Now() + absl::Nanoseconds(half_ns + jitter_ns), [this] {
    if (state_ == State::kWaiting) Ask();
  });
}

// --- The seed ---

void SeedSearch::Find(const NodeInfo& seed) {
  state_ = State::kFound;
  seed_ = seed;
  backoff_ = kBackoffMin;
  last_why_.clear();
  const bool self = seed_.id == services_.links->self().id;
  LogInfo("seed.found node={} address={} self={}", Quoted(seed_.name), Quoted(seed_.address), self);
  services_.seed_is(seed_);
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

void SeedSearch::Introduce(StreamId stream, const Hello& hello) {
  if (hello.protocol_version != kPeerProtocolVersion) {
    return services_.streams->End(
        stream, LinkEnd{LinkEndReason::kWrongVersion,
                        absl::StrCat("this daemon speaks version ", kPeerProtocolVersion,
                                     " of the protocol between daemons, and not ",
                                     hello.protocol_version)});
  }
  Introduction introduction{.node = services_.links->self()};
  if (state_ == State::kFound) introduction.seed = seed_;
  services_.streams->Send(stream, std::move(introduction));
  services_.streams->End(stream, std::nullopt);
}

}  // namespace tutti
