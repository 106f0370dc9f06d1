// The seed: introduces nodes to each other. Offers of joins become the roster of an epoch, or are
// refused together.
//
// Soft state, all of it: what a restarted seed has to know, nodes tell it again. It decides who
// forms a group; what becomes of the group its coordinator decides (docs/adr/0014).
//
// A formation is the time between the first offer under a name and the last one. It ends when all
// seats are taken, when joiners disagree, when the earliest of their deadlines passes, or when
// nobody waits any more. A name is in use from then until its coordinator says otherwise, or is
// lost.
//
// Lives on the control loop of the daemon that the others were told to join.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/deadline_queue.h"
#include "daemon/cluster/messages.h"

namespace tutti {

class Seed {
 public:
  struct Services {
    const Clock* clock = nullptr;
    DeadlineQueue* deadlines = nullptr;
    // Fills `size` random bytes.
    std::function<void(void* bytes, size_t size)> random;
    // May be called from within any method.
    std::function<void(const NodeInfo& to, PeerMessage message)> say;
  };

  // What `services` points to must outlive this. It is closed: it listens, and introduces nobody.
  explicit Seed(Services services);
  ~Seed();

  // Introduces from `opens` on: who may not be the first seed waits until it has been told which
  // names are in use.
  void OpenAt(MonotonicTime opens);
  // Another may be the seed now. Forgets what it was told: all of that is told to the next one.
  void Close();

  // A taken seat fails this join only; disagreement fails all of the formation's.
  void Heard(const NodeInfo& from, const Offer& offer);
  void Heard(const NodeInfo& from, const Withdraw& withdraw);
  void Heard(const NodeInfo& from, const Registered& registered);
  void Heard(const NodeInfo& from, const Unregistered& unregistered);

  // Its offers are gone, and the names of the groups that it coordinates are free.
  void Lost(const NodeInfo& node);

  size_t formations() const { return forming_.size(); }
  size_t names_in_use() const { return in_use_.size(); }

 private:
  struct Joiner;
  struct Forming;
  struct InUse;
  using FormingMap = std::map<GroupKey, Forming>;
  using InUseMap = std::map<GroupKey, InUse>;

  // Gives it a seat if the name is free, and else lets it wait until that is known.
  void Consider(const Joiner& joiner);
  void Take(const Joiner& joiner);
  void Refuse(const Joiner& joiner, const Failure& failure) const;
  void Fail(FormingMap::iterator forming, const Failure& failure);
  // Makes the deadline what it has to be now.
  void Rearm(FormingMap::iterator forming);
  void Expired(const GroupKey& key);
  void Introduce(FormingMap::iterator forming);
  void Free(InUseMap::iterator used);
  template <typename Gone>
  void RemoveFrom(FormingMap::iterator forming, Gone gone);
  uint64_t NextEpoch(const Offer& offer);

  const Services services_;
  MonotonicTime opens_ = absl::InfiniteFuture();
  FormingMap forming_;
  InUseMap in_use_;
  // The last epoch of each name, so that numbers never repeat. Bounded: when it is full, names are
  // forgotten, and start above any number that was ever given out.
  std::map<GroupKey, uint64_t> epochs_;
  uint64_t epoch_floor_ = 0;
};

}  // namespace tutti
