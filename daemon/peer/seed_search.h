// Finds the seed, and keeps finding it: the daemon that introduces others to each other.
//
//   asks the --join address who the seed is ──► links to it ──► SeedIs ──lost──► asks again
//
// for ever, after 50 to 500 ms each time. Any daemon can be asked that has a link to the seed. The
// answer also tells this node its own address, if no setting does: that of the connection.
//
// Who was told to join nobody is the seed itself, and so is who finds itself at the join address:
// all daemons of a cluster may be told the same.
//
// Thread: everything on the control loop.
#pragma once

#include <optional>
#include <string>

#include "daemon/peer/seed_finder.h"

namespace tutti {

class SeedSearch final : public SeedFinder {
 public:
  struct Options {
    // "host:port"; empty: this node is the seed.
    std::string join;
    // After that an answer is not waited for any more.
    absl::Duration ask_timeout = absl::Seconds(5);
    // Where this node listens, if its host is to be found out.
    std::optional<uint16_t> port_of_own_address;
    // If this node is the seed.
    absl::Duration opens_after;
  };

  SeedSearch(Services services, Options options);

  void Start() override;
  void Stop() override;

  bool Owns(StreamId stream) const override { return stream != 0 && stream == stream_; }
  // Of that one.
  void Received(StreamId stream, LinkFrame frame) override;
  void Broke(StreamId stream, const std::string& why) override;

  void LinkIsUp(const NodeInfo& node) override;
  void LinkIsDown(const NodeInfo& node) override;

 private:
  enum class State : uint8_t { kWaiting, kAsking, kLinking, kFound, kStopped };

  std::optional<NodeInfo> seed() const override;
  void Ask();
  void Find(const NodeInfo& seed);
  void FindOwnAddress(StreamId stream);
  void EndAsking();
  void TryAgain(const std::string& why);
  void HandleIntroduction(const Introduction& introduction);

  const Options options_;
  State state_ = State::kWaiting;
  StreamId stream_ = 0;  // that asks
  NodeInfo seed_;        // while linking, and found
  Backoff backoff_;
};

}  // namespace tutti
