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

#include <functional>
#include <optional>
#include <random>
#include <string>

#include "base/clock.h"
#include "base/task_runner.h"
#include "daemon/peer/links.h"
#include "daemon/peer/streams.h"

namespace tutti {

class SeedSearch final : public LinkStreamsListener {
 public:
  struct Services {
    const Clock* clock = nullptr;
    SequencedTaskRunner* loop = nullptr;
    LinkStreams* streams = nullptr;
    Links* links = nullptr;
    // There is a link to the seed, or this node is it.
    std::function<void(const NodeInfo& seed)> seed_is;
    // It was not found, or is lost; this will try again.
    std::function<void(const std::string& why)> looks;
  };
  struct Options {
    // "host:port"; empty: this node is the seed.
    std::string join;
    // After that an answer is not waited for any more.
    absl::Duration ask_timeout = absl::Seconds(5);
    // Where this node listens, if its host is to be found out.
    std::optional<uint16_t> port_of_own_address;
  };

  // What `services` points to must outlive this, and tasks that were posted must not run after it.
  SeedSearch(Services services, Options options);

  void Start();
  void Stop();

  // True of the stream that asks.
  bool Owns(StreamId stream) const { return stream != 0 && stream == stream_; }
  // Of that one.
  void Received(StreamId stream, LinkFrame frame) override;
  void Broke(StreamId stream, const std::string& why) override;

  // Another daemon has asked.
  void Introduce(StreamId stream, const Hello& hello);

  // Of every link.
  void LinkIsUp(const NodeInfo& node);
  void LinkIsDown(const NodeInfo& node);

 private:
  enum class State : uint8_t { kWaiting, kAsking, kLinking, kFound, kStopped };

  void Ask();
  void Find(const NodeInfo& seed);
  void FindOwnAddress(StreamId stream);
  void EndAsking();
  void TryAgain(const std::string& why);
  void HandleIntroduction(const Introduction& introduction);

  const Services services_;
  const Options options_;
  State state_ = State::kWaiting;
  StreamId stream_ = 0;  // that asks
  NodeInfo seed_;        // while linking, and found
  absl::Duration backoff_;
  std::string last_why_;  // to log each reason once
  std::mt19937_64 random_;
};

}  // namespace tutti
