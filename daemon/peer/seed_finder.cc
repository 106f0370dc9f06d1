#include "daemon/peer/seed_finder.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace tutti {

void SeedFinder::Introduce(StreamId stream, const Hello& hello) {
  LinkStreams& streams = *services_.streams;
  if (hello.protocol_version != kPeerProtocolVersion) {
    return streams.End(stream,
                       LinkEnd{LinkEndReason::kWrongVersion,
                               absl::StrCat("this daemon speaks version ", kPeerProtocolVersion,
                                            " of the protocol between daemons, and not ",
                                            hello.protocol_version)});
  }
  streams.Send(stream, Introduction{.node = self(), .seed = seed()});
  streams.End(stream, std::nullopt);
}

void SeedFinder::Tell(const NodeInfo& seed, absl::Duration opens_after) {
  last_why_.clear();
  LogInfo("seed.found node={} address={} self={}", Quoted(seed.name), Quoted(seed.address),
          seed.id == self().id);
  services_.seed_is(seed, opens_after);
}

void SeedFinder::Complain(const std::string& asked, const std::string& why) {
  if (why != last_why_) {
    LogWarning("seed.unreachable asked={} why={}", Quoted(asked), Quoted(why));
    last_why_ = why;
  }
  services_.looks(why);
}

namespace {

std::mt19937_64 SeededBy(const NodeId& id) {
  std::seed_seq seed(id.begin(), id.end());
  return std::mt19937_64(seed);
}

}  // namespace

Backoff::Backoff(const NodeId& node) : random_(SeededBy(node)) {}

absl::Duration Backoff::Next() {
  const int64_t half_ns = absl::ToInt64Nanoseconds(next_ / 2);
  const auto jitter_ns = static_cast<int64_t>(random_() % static_cast<uint64_t>(half_ns));
  next_ = std::min(2 * next_, kMax);
  return absl::Nanoseconds(half_ns + jitter_ns);
}

}  // namespace tutti
