// Where daemons write who is the seed: a claim, which lapses unless its owner renews it.
//
// EtcdSeedStore is the real one; tests have one in memory.
//
// Thread: the control loop. One question at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "daemon/cluster/messages.h"

namespace tutti {

class SeedStore {
 public:
  struct Answer {
    // Why nothing is known; empty if the rest is true.
    std::string error;
    // Who has the claim, if anybody.
    std::optional<NodeInfo> seed;
    // Another one for each claim.
    int64_t term = 0;
    // It is the one that was made here, and not resigned.
    bool ours = false;
    // Nobody had one before.
    bool first = false;
  };
  // Called once, on the loop; never from within, and not after Stop.
  using Done = std::function<void(Answer answer)>;

  virtual ~SeedStore() = default;

  virtual void Look(Done done) = 0;
  // Makes a claim for `self` if nobody has one. It holds for `lasts()` from now on at least, if it
  // was had.
  virtual void Claim(const NodeInfo& self, Done done) = 0;
  // From now on, if it is still had, for as long again.
  virtual void Renew(Done done) = 0;
  // Gives it up, soon; if that cannot be said, it lapses.
  virtual void Resign() = 0;
  // Answers no more. What was resigned is given up nevertheless.
  virtual void Stop() = 0;

  virtual absl::Duration lasts() const = 0;
  // Where it is, for people.
  virtual const std::string& name() const = 0;
};

}  // namespace tutti
