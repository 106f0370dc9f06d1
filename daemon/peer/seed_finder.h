// Who is the seed? It introduces daemons to each other, and there is one of them.
//
// There are two ways to know: by asking the daemon that one was told to join (seed_search.h), and
// by election (elected_seed.h).
//
// Thread: everything on the control loop.
#pragma once

#include <functional>
#include <optional>
#include <random>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/task_runner.h"
#include "daemon/peer/links.h"
#include "daemon/peer/streams.h"

namespace tutti {

class SeedFinder : public LinkStreamsListener {
 public:
  struct Services {
    const Clock* clock = nullptr;
    SequencedTaskRunner* loop = nullptr;
    LinkStreams* streams = nullptr;
    Links* links = nullptr;
    // There is a link to the seed, or this node is it; then it is to introduce nobody for
    // `opens_after`. See PeerListener.
    std::function<void(const NodeInfo& seed, absl::Duration opens_after)> seed_is;
    // It was not found, or is lost; this will try again.
    std::function<void(const std::string& why)> looks;
  };

  // What `services` points to must outlive this, and tasks that were posted must not run after it.
  explicit SeedFinder(Services services) : services_(std::move(services)) {}

  virtual void Start() = 0;
  virtual void Stop() = 0;

  // True of a stream by which this asks; it is told what that one receives.
  virtual bool Owns(StreamId stream) const = 0;

  // Of every link.
  virtual void LinkIsUp(const NodeInfo& node) = 0;
  virtual void LinkIsDown(const NodeInfo& node) = 0;

  // Another daemon has asked.
  void Introduce(StreamId stream, const Hello& hello);

 protected:
  const Services& services() const { return services_; }
  const NodeInfo& self() const { return services_.links->self(); }
  // While it is known, and there is a link to it.
  virtual std::optional<NodeInfo> seed() const = 0;

  // Says whom it has found.
  void Tell(const NodeInfo& seed, absl::Duration opens_after);
  // Says that there is none; logs each reason once. `asked`: whom it has asked.
  void Complain(const std::string& asked, const std::string& why);

 private:
  const Services services_;
  std::string last_why_;
};

// When to try again: half of it and up to all of it, twice as long each time.
class Backoff {
 public:
  // Nodes that have lost the seed together do not come back together.
  explicit Backoff(const NodeId& node);

  absl::Duration Next();
  void Reset() { next_ = kMin; }

 private:
  // A daemon that is restarted is found within half a second; and a thousand that look for it ask
  // some 3000 times in a second, which takes it a tenth of that.
  static constexpr absl::Duration kMin = absl::Milliseconds(50);
  static constexpr absl::Duration kMax = absl::Milliseconds(500);

  absl::Duration next_ = kMin;
  std::mt19937_64 random_;
};

}  // namespace tutti
