#include "tests/harness/storm.h"

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/thread.h"
#include "tests/harness/elements.h"

namespace tutti {
namespace {

// Enough to overlap, and few enough for all threads to have room among the works in flight.
constexpr size_t kInFlight = 8;

// 1 to 20,000 elements: on both sides of what is executed inline (128 KiB, says node.py).
constexpr uint64_t kCounts[] = {1, 7, 1000, 20'000};

Elements ElementsOf(const Tensor& tensor) {
  return {tensor.bytes(), tensor.dtype(), tensor.count()};
}

// Works in flight of one thread, oldest first; each is checked when it has ended.
class InFlight {
 public:
  explicit InFlight(StormResult* result) : result_(result) {}

  void Add(Work work, const Tensor& tensor, std::optional<Pattern> wanted) {
    works_.push_back({std::move(work), tensor, wanted});
    if (works_.size() > kInFlight) EndOldest();
  }

  void EndAll() {
    while (!works_.empty()) EndOldest();
  }

  bool ok() const { return result_->problem.empty(); }
  void Say(std::string problem) {
    if (ok()) result_->problem = std::move(problem);
  }

 private:
  struct Entry {
    Work work;
    Tensor tensor;
    std::optional<Pattern> wanted;
  };

  void EndOldest() {
    const Entry entry = std::move(works_.front());
    works_.pop_front();
    if (const std::optional<Failure> failure = entry.work.Wait()) return Say(failure->message);
    ++result_->works;
    if (!entry.wanted.has_value()) return;
    const size_t wrong = FirstDifference(ElementsOf(entry.tensor), *entry.wanted);
    if (wrong == entry.tensor.count()) return;
    Say(absl::StrCat("element ", wrong, " of ", entry.tensor.count(), " is ",
                     Values(ElementsOf(entry.tensor))[wrong], ", not of the pattern ",
                     entry.wanted->value, " + ", entry.wanted->step, " * i"));
  }

  StormResult* const result_;
  std::deque<Entry> works_;
};

// One thread's part.
struct Part {
  Client* client = nullptr;
  const Group* group = nullptr;
  uint64_t rounds = 0;
  StormResult result;

  std::optional<Tensor> NewTensor(uint64_t round, InFlight* works) {
    auto tensor = client->NewTensor(DataType::kFloat64, kCounts[round % std::size(kCounts)]);
    if (tensor.ok()) return *std::move(tensor);
    works->Say(std::string(tensor.status().message()));
    return std::nullopt;
  }

  // Every rank's element i of round r is r + rank + i.
  void AllReduce() {
    InFlight works(&result);
    const double ranks = group->world_size();
    for (uint64_t round = 0; round < rounds && works.ok(); ++round) {
      const std::optional<Tensor> tensor = NewTensor(round, &works);
      if (!tensor.has_value()) break;
      const auto base = static_cast<double>(round);
      Fill(ElementsOf(*tensor), {base + group->rank(), 1, tensor->count()});
      works.Add(group->AllReduce(*tensor), *tensor,
                Pattern{ranks * base + ranks * (ranks - 1) / 2, ranks, tensor->count()});
    }
    works.EndAll();
  }

  // What rank s sends in round r is 1000 * s + r everywhere.
  void SendAndReceive() {
    InFlight works(&result);
    const uint32_t ranks = group->world_size();
    const Rank next = (group->rank() + 1) % ranks;
    const Rank before = (group->rank() + ranks - 1) % ranks;
    if (ranks == 1) return;
    for (uint64_t round = 0; round < rounds && works.ok(); ++round) {
      const std::optional<Tensor> out = NewTensor(round, &works);
      const std::optional<Tensor> in = NewTensor(round, &works);
      if (!out.has_value() || !in.has_value()) break;
      const auto base = static_cast<double>(round);
      Fill(ElementsOf(*out), {1000.0 * group->rank() + base});
      works.Add(group->Recv(*in, before), *in, Pattern{1000.0 * before + base});
      works.Add(group->Send(*out, next), *out, std::nullopt);
    }
    works.EndAll();
  }
};

}  // namespace

StormResult RunStorm(Client* client, const std::vector<Group>& groups, uint64_t rounds) {
  std::vector<Part> parts(2 * groups.size());
  {
    std::vector<std::unique_ptr<Thread>> threads;
    for (size_t i = 0; i < parts.size(); ++i) {
      Part* const part = &parts[i];
      *part = {.client = client, .group = &groups[i / 2], .rounds = rounds};
      threads.push_back(std::make_unique<Thread>(
          "storm", [part, i] { i % 2 == 0 ? part->AllReduce() : part->SendAndReceive(); }));
    }
  }
  StormResult result;
  for (const Part& part : parts) {
    result.works += part.result.works;
    if (result.problem.empty()) result.problem = part.result.problem;
  }
  return result;
}

}  // namespace tutti
