// Agreement: what a node says of an operation ahead of any payload, and the rule by which all nodes
// decide on what all have said. The same words and the same rule: so all of them decide alike.
//
// A node says what its ranks have submitted, or why it refuses the operation. A refusal, or two
// that say different things, is the operation's end on every rank, and nothing is written. A node
// that refuses because a rank has left says that there will be no more: then all know where the
// collectives of the epoch end.
//
// Pure logic. An agreement belongs to whoever runs the operation, on its thread, and is read on the
// control loop after that.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backends/backend.h"
#include "base/failure.h"
#include "daemon/core/work.h"

namespace tutti {

// What one node says.
struct Words {
  uint64_t sequence = 0;
  Signature signature;
  uint64_t lengths = 0;  // a fingerprint of the lengths of several tensors
  std::optional<Failure> refusal;
  bool last = false;  // with a refusal: no operation comes after this one
};

// At most kSaidBytesMax bytes: messages are cut.
std::string Encode(const Words& words);
// Nothing if that is not what Encode makes.
std::optional<Words> Decode(std::string_view said);

// What the ranks of this node have submitted, or why it refuses. REQUIRES: complete, or refused.
Words WordsOf(const Operation& operation);

// A node of a group.
struct NodeRanks {
  std::string name;  // for people
  std::vector<Rank> ranks;
};

class NodeAgreement final : public Agreement {
 public:
  // `group` and `epoch` name the epoch in messages.
  NodeAgreement(std::string group, uint64_t epoch, std::vector<NodeRanks> nodes, const Words& mine);

  std::string_view mine() const override { return mine_; }
  bool Decide(const std::vector<std::string_view>& said) override;
  bool DecideSplits(const Splits& splits) override;

  // What all have decided; nothing if they agree.
  const std::optional<Failure>& verdict() const { return verdict_; }
  // The verdict ends the collectives of the epoch.
  bool last() const { return last_; }

 private:
  std::optional<Failure> Judge(const std::vector<std::string_view>& said);
  std::string Where(const Signature& signature) const;

  const std::string group_;
  const uint64_t epoch_;
  const std::vector<NodeRanks> nodes_;
  const Words words_;
  const std::string mine_;
  std::optional<Failure> verdict_;
  bool last_ = false;
};

}  // namespace tutti
