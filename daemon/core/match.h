// Matching: which works of different ranks belong together, and whether they fit.
//
// A group's collectives are one sequence over all its ranks; each ordered pair (source,
// destination) has a sequence of its own. Within a sequence the k-th work of one rank belongs to
// the k-th works of the others. Pure logic on the control loop: no clock, no I/O.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/core/verdict.h"
#include "daemon/core/work.h"

namespace tutti {

class OpSequence {
 public:
  // `ranks`: who takes part, by slot. For a pair: {source, destination}.
  explicit OpSequence(std::vector<Rank> ranks);

  // Where `rank` stands. REQUIRES: it takes part.
  size_t SlotOf(Rank rank) const;
  const std::vector<Rank>& ranks() const { return ranks_; }

  // Puts the work at its rank's next place, and returns the operation there: a new one, or one that
  // others have begun. REQUIRES: Accepts(rank).
  std::shared_ptr<Operation> Add(std::unique_ptr<Work> work);

  // False once the sequence is capped below the next place of `rank`.
  bool Accepts(Rank rank) const;

  // The place of the last work that `rank` has submitted; 0 if none.
  uint64_t LastOf(Rank rank) const;

  // The oldest operation after place `last` that still lacks a work; null if there is none.
  std::shared_ptr<Operation> FirstBeyond(uint64_t last) const;

  // No operation after place `last` will be completed any more, because of `why`. Returns those
  // that still lack a work, for the caller to give a verdict: they keep their place, so that they
  // end in order. Caps only ever get lower.
  std::vector<std::shared_ptr<Operation>> CapAt(uint64_t last, const Failure& why);

  // Takes a work that comes too late, and returns why: the cap that ended its operation, so that it
  // is told what the others were who had come in time. REQUIRES: !Accepts(rank).
  const Failure& Refuse(Rank rank);
  // The place of the newest operation that there ever was.
  uint64_t created() const { return created_; }
  // The oldest operation that lacks a work; null if there is none.
  std::shared_ptr<Operation> OldestIncomplete() const;

  // The oldest operation: what may start next. Null if there is none.
  std::shared_ptr<Operation> Front() const;
  // REQUIRES: Front() is not null.
  void PopFront();
  // Takes out one that still lacks a work (a recv that waited long enough).
  void Withdraw(const Operation& operation);

  // Oldest first.
  const std::deque<std::shared_ptr<Operation>>& operations() const { return operations_; }

 private:
  void Erase(size_t index);

  const std::vector<Rank> ranks_;
  std::deque<std::shared_ptr<Operation>> operations_;
  // By slot: index into operations_ of the first one that lacks its work.
  std::vector<size_t> next_;
  uint64_t created_ = 0;
  struct Cap {
    uint64_t last = 0;
    Failure why;
  };
  // Each lower than the one before.
  std::vector<Cap> caps_;
  // By slot: the place of its last work, be it accepted or refused.
  std::vector<uint64_t> places_;
};

// Ranks that agree with each other.
struct Side {
  Signature signature;
  std::vector<Rank> ranks;
  const Work* work = nullptr;  // of its lowest rank, where it is on this node
};

// Says on what two sides differ, for people.
using Differences = std::function<std::vector<std::string>(const Side& a, const Side& b)>;

// The signatures of two sides differ in these fields.
std::vector<std::string> DifferingFields(const Signature& a, const Signature& b);

// The verdict on sides that do not agree; culprits are all but the largest. `where` names the
// operation. REQUIRES: two sides or more.
Failure DescribeSides(const std::vector<Side>& sides, const std::string& where,
                      const Differences& differences);

// The verdict on an all_to_all in which rank `from` has `sent` elements for rank `to`, which
// expects `expected`.
Failure DescribeSplit(Rank from, Rank to, uint64_t sent, uint64_t expected,
                      const std::string& where);

// The ranks of a complete operation of `group` disagree: says on what, and names both sides;
// culprits are the smaller side. Nothing if they agree.
std::optional<Failure> Disagreement(const Operation& operation, const GroupLabel& group);

}  // namespace tutti
