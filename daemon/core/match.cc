#include "daemon/core/match.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/failpoint.h"
#include "daemon/core/shape.h"
#include "daemon/core/verdict.h"

namespace tutti {

OpSequence::OpSequence(std::vector<Rank> ranks)
    : ranks_(std::move(ranks)), next_(ranks_.size()), places_(ranks_.size()) {}

size_t OpSequence::SlotOf(Rank rank) const {
  const auto found = std::find(ranks_.begin(), ranks_.end(), rank);
  TUTTI_CHECK(found != ranks_.end());
  return static_cast<size_t>(found - ranks_.begin());
}

bool OpSequence::Accepts(Rank rank) const {
  return caps_.empty() || LastOf(rank) < caps_.back().last;
}

uint64_t OpSequence::LastOf(Rank rank) const {
  const size_t next = next_[SlotOf(rank)];
  return next < operations_.size() ? operations_[next]->sequence - 1 : created_;
}

std::shared_ptr<Operation> OpSequence::Add(std::unique_ptr<Work> work) {
  TUTTI_CHECK(Accepts(work->rank));
  const size_t slot = SlotOf(work->rank);
  if (next_[slot] == operations_.size()) {
    auto operation = std::make_shared<Operation>();
    operation->sequence = ++created_;
    operation->works.resize(ranks_.size());
    operation->first_submitted = work->submitted;
    operations_.push_back(std::move(operation));
  }
  const std::shared_ptr<Operation>& operation = operations_[next_[slot]++];
  operation->last_submitted = work->submitted;
  operation->works[slot] = std::move(work);
  ++places_[slot];
  ++operation->arrived;
  return operation;
}

std::shared_ptr<Operation> OpSequence::FirstBeyond(uint64_t last) const {
  const auto found =
      std::find_if(operations_.begin(), operations_.end(), [last](const auto& operation) {
        return operation->sequence > last && !operation->complete();
      });
  return found == operations_.end() ? nullptr : *found;
}

std::vector<std::shared_ptr<Operation>> OpSequence::CapAt(uint64_t last, const Failure& why) {
  if (caps_.empty() || last < caps_.back().last) caps_.push_back({last, why});
  std::vector<std::shared_ptr<Operation>> beyond;
  for (const auto& operation : operations_) {
    if (operation->sequence > caps_.back().last && !operation->complete()) {
      beyond.push_back(operation);
    }
  }
  return beyond;
}

const Failure& OpSequence::Refuse(Rank rank) {
  TUTTI_CHECK(!Accepts(rank));
  // Not LastOf, which takes operations that have ended for submitted.
  const uint64_t place = ++places_[SlotOf(rank)];
  // The first cap below its place ended its operation; later and lower ones came too late for that.
  const auto cap = std::find_if(caps_.begin(), caps_.end(),
                                [place](const Cap& each) { return place > each.last; });
  TUTTI_CHECK(cap != caps_.end());
  return cap->why;
}

std::shared_ptr<Operation> OpSequence::OldestIncomplete() const {
  const auto found = std::find_if(operations_.begin(), operations_.end(),
                                  [](const auto& operation) { return !operation->complete(); });
  return found == operations_.end() ? nullptr : *found;
}

std::shared_ptr<Operation> OpSequence::Front() const {
  return operations_.empty() ? nullptr : operations_.front();
}

void OpSequence::PopFront() {
  TUTTI_CHECK(!operations_.empty());
  Erase(0);
}

void OpSequence::Withdraw(const Operation& operation) {
  const auto found = std::find_if(operations_.begin(), operations_.end(),
                                  [&](const auto& other) { return other.get() == &operation; });
  TUTTI_CHECK(found != operations_.end() && !operation.complete());
  for (size_t slot = 0; slot < places_.size(); ++slot) {
    if (operation.works[slot] == nullptr) ++places_[slot];
  }
  Erase(static_cast<size_t>(found - operations_.begin()));
}

void OpSequence::Erase(size_t index) {
  if (index == 0) {
    operations_.pop_front();
  } else {
    operations_.erase(operations_.begin() + static_cast<ptrdiff_t>(index));
  }
  for (size_t& next : next_) {
    if (next > index) --next;
  }
}

namespace {

constexpr const char* kNothingWritten = "; nothing was written, the group stays usable";

// A send and its recv have different kinds, and name each other's rank as root; what they have to
// agree on is what is transferred.
Signature Comparable(Signature signature) {
  if (IsPairwise(signature.kind)) {
    signature.kind = CollectiveKind::kSend;
    signature.root = 0;
  }
  return signature;
}

const Buffers& AlikeTensors(const Work& work) {
  return AlikeSide(work.signature.kind, work.buffers.inputs, work.buffers.outputs);
}

bool SameLength(const Buffer& a, const Buffer& b) { return a.size_bytes == b.size_bytes; }

// The signature says what all tensors have together; where there are several, each counts.
bool SameLengths(const Work& a, const Work& b) {
  if (a.signature.parts < 2) return true;
  const Buffers& some = AlikeTensors(a);
  const Buffers& others = AlikeTensors(b);
  return std::equal(some.begin(), some.end(), others.begin(), others.end(), SameLength);
}

bool Agree(const Work& a, const Work& b) {
  return Comparable(a.signature) == Comparable(b.signature) && SameLengths(a, b);
}

// In the order of their lowest ranks.
std::vector<Side> SidesOf(const Operation& operation) {
  std::vector<Side> sides;
  for (const auto& work : operation.works) {
    const auto same = std::find_if(sides.begin(), sides.end(),
                                   [&](const Side& side) { return Agree(*side.work, *work); });
    if (same != sides.end()) {
      same->ranks.push_back(work->rank);
    } else {
      sides.push_back({work->signature, {work->rank}, work.get()});
    }
  }
  return sides;
}

bool AllAgree(const Operation& operation) {
  const Work& first = *operation.works.front();
  return std::all_of(operation.works.begin(), operation.works.end(),
                     [&](const auto& work) { return Agree(first, *work); });
}

// The signature says what all tensors have together; what differs may be the length of one.
std::vector<std::string> DifferencesOf(const Side& a, const Side& b) {
  std::vector<std::string> fields = DifferingFields(a.signature, b.signature);
  if (!fields.empty()) return fields;
  const Buffers& some = AlikeTensors(*a.work);
  const Buffers& others = AlikeTensors(*b.work);
  const auto [x, y] =
      std::mismatch(some.begin(), some.end(), others.begin(), others.end(), SameLength);
  const size_t element = SizeOf(a.signature.dtype);
  return {absl::StrCat("the element count of tensor ", x - some.begin(), " (",
                       x->size_bytes / element, " and ", y->size_bytes / element, ")")};
}

// An all_to_all: what rank a has for rank b must be as much as b expects.
std::optional<Failure> SplitsDisagree(const Operation& operation, const GroupLabel& group) {
  if (operation.works.front()->signature.kind != CollectiveKind::kAllToAll) return std::nullopt;
  for (const auto& from : operation.works) {
    for (const auto& to : operation.works) {
      const size_t sent = from->buffers.inputs[to->rank].size_bytes;
      const size_t expected = to->buffers.outputs[from->rank].size_bytes;
      if (sent == expected) continue;
      const size_t element = SizeOf(from->signature.dtype);
      Failure failure = DescribeSplit(from->rank, to->rank, sent / element, expected / element,
                                      Where(group, &operation));
      failure.sequence = operation.sequence;
      return failure;
    }
  }
  return std::nullopt;
}

}  // namespace

std::vector<std::string> DifferingFields(const Signature& one, const Signature& other) {
  const Signature a = Comparable(one);
  const Signature b = Comparable(other);
  std::vector<std::string> fields;
  if (a.kind != b.kind) fields.emplace_back("operation");
  if (a.dtype != b.dtype) fields.emplace_back("dtype");
  if (a.count != b.count) fields.emplace_back("element count");
  if (a.op != b.op) fields.emplace_back("reduce op");
  if (a.root != b.root) fields.emplace_back("root");
  if (a.parts != b.parts) fields.emplace_back("number of tensors");
  return fields;
}

Failure DescribeSplit(Rank from, Rank to, uint64_t sent, uint64_t expected,
                      const std::string& where) {
  Failure failure{.cause = Cause::kMismatch};
  failure.culprits = {std::min(from, to)};
  if (from != to) failure.culprits.push_back(std::max(from, to));
  failure.message = absl::StrCat(where, ": rank ", from, " has ", sent, " elements for rank ", to,
                                 ", which expects ", expected, " from it", kNothingWritten);
  return failure;
}

Failure DescribeSides(const std::vector<Side>& sides, const std::string& where,
                      const Differences& differences) {
  // The first of the largest sides is what the others should have done.
  const auto majority = std::max_element(
      sides.begin(), sides.end(),
      [](const Side& a, const Side& b) { return a.ranks.size() < b.ranks.size(); });
  Failure failure{.cause = Cause::kMismatch};
  std::vector<std::string> fields;
  std::vector<std::string> told;
  for (const Side& side : sides) {
    told.push_back(absl::StrCat(DescribeRanks(side.ranks), ": ", Describe(side.signature)));
    if (&side == &*majority) continue;
    failure.culprits.insert(failure.culprits.end(), side.ranks.begin(), side.ranks.end());
    for (std::string& field : differences(*majority, side)) {
      if (std::find(fields.begin(), fields.end(), field) == fields.end()) {
        fields.push_back(std::move(field));
      }
    }
  }
  std::sort(failure.culprits.begin(), failure.culprits.end());
  failure.message = absl::StrCat(where, ": ranks disagree on ", absl::StrJoin(fields, ", "), " (",
                                 absl::StrJoin(told, "; "), ")", kNothingWritten);
  return failure;
}

std::optional<Failure> Disagreement(const Operation& operation, const GroupLabel& group) {
  if (Mutated("match.skip_signature")) return std::nullopt;
  if (AllAgree(operation)) return SplitsDisagree(operation, group);
  Failure failure = DescribeSides(SidesOf(operation), Where(group, &operation), &DifferencesOf);
  failure.sequence = operation.sequence;
  return failure;
}

}  // namespace tutti
