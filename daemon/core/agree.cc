#include "daemon/core/agree.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "daemon/core/match.h"
#include "daemon/core/shape.h"

namespace tutti {
namespace {

// What is said begins with this; another version says something else. Numbers are in the byte order
// of the machine: nodes of one group are alike, as tensors are not converted either.
struct Fixed {
  uint32_t version = 0x54555401;
  uint8_t refused = 0;
  uint8_t last = 0;
  uint8_t cause = 0;
  uint8_t reserved = 0;
  uint64_t sequence = 0;
  uint64_t lengths = 0;
  Signature signature;
  uint32_t culprits = 0;
  uint32_t message = 0;
};
static_assert(sizeof(Fixed) == 56);

// Culprits beyond that are not named: all ranks of a node that is not large.
constexpr size_t kCulpritsMax = 64;

// FNV-1a (Fowler, Noll, Vo), over the lengths of the tensors.
uint64_t Fingerprint(const Buffers& tensors) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const Buffer& tensor : tensors) {
    for (int shift = 0; shift < 64; shift += 8) {
      hash ^= (uint64_t{tensor.size_bytes} >> shift) & 0xff;
      hash *= 0x100000001b3;
    }
  }
  return hash;
}

}  // namespace

std::string Encode(const Words& words) {
  Fixed fixed;
  fixed.sequence = words.sequence;
  fixed.lengths = words.lengths;
  fixed.signature = words.signature;
  fixed.last = words.last ? 1 : 0;
  if (!words.refusal.has_value()) {
    return std::string(reinterpret_cast<const char*>(&fixed), sizeof(fixed));
  }
  const Failure& refusal = *words.refusal;
  fixed.refused = 1;
  fixed.cause = static_cast<uint8_t>(refusal.cause);
  fixed.culprits = static_cast<uint32_t>(std::min(refusal.culprits.size(), kCulpritsMax));
  const size_t room = kSaidBytesMax - sizeof(fixed) - fixed.culprits * sizeof(Rank);
  fixed.message = static_cast<uint32_t>(std::min(refusal.message.size(), room));
  std::string said(reinterpret_cast<const char*>(&fixed), sizeof(fixed));
  said.append(reinterpret_cast<const char*>(refusal.culprits.data()),
              fixed.culprits * sizeof(Rank));
  said.append(refusal.message, 0, fixed.message);
  return said;
}

std::optional<Words> Decode(std::string_view said) {
  Fixed fixed;
  const uint32_t version = fixed.version;
  if (said.size() < sizeof(fixed)) return std::nullopt;
  std::memcpy(&fixed, said.data(), sizeof(fixed));
  said.remove_prefix(sizeof(fixed));
  if (fixed.version != version || fixed.culprits > kCulpritsMax ||
      said.size() != fixed.culprits * sizeof(Rank) + fixed.message) {
    return std::nullopt;
  }
  Words words{.sequence = fixed.sequence,
              .signature = fixed.signature,
              .lengths = fixed.lengths,
              .refusal = {},
              .last = fixed.last != 0};
  if (fixed.refused == 0) return words;
  if (fixed.cause > static_cast<uint8_t>(Cause::kInternal)) return std::nullopt;
  Failure refusal{.cause = static_cast<Cause>(fixed.cause)};
  refusal.culprits.resize(fixed.culprits);
  std::memcpy(refusal.culprits.data(), said.data(), fixed.culprits * sizeof(Rank));
  refusal.message = std::string(said.substr(fixed.culprits * sizeof(Rank)));
  words.refusal = std::move(refusal);
  return words;
}

Words WordsOf(const Operation& operation) {
  const Work& any = operation.any();
  Words words{.sequence = operation.sequence,
              .signature = any.signature,
              .lengths = 0,
              .refusal = operation.verdict,
              .last = false};
  // A rooted operation's tensors are only where they are read or written: all alike.
  if (any.signature.parts > 1) {
    words.lengths =
        Fingerprint(AlikeSide(any.signature.kind, any.buffers.inputs, any.buffers.outputs));
  }
  return words;
}

NodeAgreement::NodeAgreement(std::string group, uint64_t epoch, std::vector<NodeRanks> nodes,
                             const Words& mine)
    : group_(std::move(group)),
      epoch_(epoch),
      nodes_(std::move(nodes)),
      words_(mine),
      mine_(Encode(mine)) {}

std::string NodeAgreement::Where(const Signature& signature) const {
  return absl::StrCat(NameOf(signature.kind), " #", words_.sequence, " on ", Quoted(group_),
                      " (epoch ", epoch_, ")");
}

bool NodeAgreement::Decide(const std::vector<std::string_view>& said) {
  verdict_ = Judge(said);
  if (!verdict_.has_value()) return true;
  verdict_->group = group_;
  verdict_->epoch = epoch_;
  verdict_->sequence = words_.sequence;
  return false;
}

std::optional<Failure> NodeAgreement::Judge(const std::vector<std::string_view>& said) {
  std::vector<Words> all;
  for (size_t node = 0; node < said.size(); ++node) {
    std::optional<Words> words = Decode(said[node]);
    if (!words.has_value() || words->sequence != words_.sequence) {
      return Failure{
          .cause = Cause::kInternal,
          .message = absl::StrCat("group ", Quoted(group_), " (epoch ", epoch_, "): node ",
                                  nodes_[node].name, " speaks of another operation than #",
                                  words_.sequence, "; are the daemons of one version?")};
    }
    all.push_back(*std::move(words));
  }
  // The first that refuses speaks for all who do; that it is the last may be said by any.
  for (const Words& words : all) last_ = last_ || words.last;
  for (const Words& words : all) {
    if (words.refusal.has_value() && words.last == last_) return words.refusal;
  }
  if (Mutated("agree.skip_signature")) return std::nullopt;
  std::vector<Side> sides;
  std::vector<uint64_t> lengths;
  for (size_t node = 0; node < all.size(); ++node) {
    size_t side = 0;
    while (side < sides.size() &&
           !(sides[side].signature == all[node].signature && lengths[side] == all[node].lengths)) {
      ++side;
    }
    if (side == sides.size()) {
      sides.push_back({all[node].signature, {}, nullptr});
      lengths.push_back(all[node].lengths);
    }
    const std::vector<Rank>& ranks = nodes_[node].ranks;
    sides[side].ranks.insert(sides[side].ranks.end(), ranks.begin(), ranks.end());
  }
  if (sides.size() == 1) return std::nullopt;
  for (Side& side : sides) std::sort(side.ranks.begin(), side.ranks.end());
  return DescribeSides(sides, Where(sides.front().signature), [](const Side& a, const Side& b) {
    std::vector<std::string> fields = DifferingFields(a.signature, b.signature);
    if (fields.empty()) fields.emplace_back("the element counts of the tensors");
    return fields;
  });
}

bool NodeAgreement::DecideSplits(const Splits& splits) {
  const size_t element = SizeOf(words_.signature.dtype);
  for (Rank from = 0; from < splits.world_size; ++from) {
    for (Rank to = 0; to < splits.world_size; ++to) {
      const size_t place = size_t{from} * splits.world_size + to;
      if (splits.sent[place] == splits.expected[place]) continue;
      verdict_ = DescribeSplit(from, to, splits.sent[place] / element,
                               splits.expected[place] / element, Where(words_.signature));
      verdict_->group = group_;
      verdict_->epoch = epoch_;
      verdict_->sequence = words_.sequence;
      return false;
    }
  }
  return true;
}

}  // namespace tutti
