// A rank that does what it is told: one command per line on stdin, one line of JSON for each on
// stdout. Fault tests run several, and stop and kill them.
//
//   connect DIR NAMESPACE LABEL              {"ok":true,"session":4}
//   join GROUP RANK WORLD [TIMEOUT_MS]       {"ok":true,"epoch":1}
//   tensor NAME DTYPE COUNT                  {"ok":true}
//   fill NAME VALUE                          {"ok":true}
//   allreduce GROUP NAME OP [TIMEOUT_MS]     {"ok":true,"work":1}     submitted; wait tells more
//   allreduce_to GROUP IN OUT OP [TIMEOUT_MS]                         into another tensor
//   broadcast GROUP NAME ROOT [TIMEOUT_MS]   {"ok":true,"work":2}
//   barrier GROUP [TIMEOUT_MS]               {"ok":true,"work":3}
//   wait N                                   {"ok":true,"us":..,"monotonic_ns":..}
//   hash NAME                                {"ok":true,"hash":..}    FNV-1a of the bytes
//   check NAME VALUE                         {"ok":true,"equal":true}  every element?
//   leave GROUP   goodbye   pid   exit
//
// What fails answers {"ok":false,"cause":"RANK_DIED","code":10,"message":..,"group":..,"epoch":..,
// "culprits":[..],"missing":[..],"sequence":..,"monotonic_ns":..}: when the verdict arrived here,
// on CLOCK_MONOTONIC, which all processes of a machine share. Words hold no spaces.
#include <unistd.h>

#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/clock.h"
#include "client/cpp/tutti.h"
#include "tests/harness/json.h"

namespace tutti {
namespace {

using Words = std::vector<std::string>;

JsonObject Ok() { return JsonObject().Add("ok", true); }

JsonObject Usage(const std::string& message) {
  return JsonObject().Add("ok", false).Add("cause", "USAGE").Add("message", message);
}

JsonObject Failed(const Failure& failure, MonotonicTime when) {
  return JsonObject()
      .Add("ok", false)
      .Add("cause", NameOf(failure.cause))
      .Add("code", static_cast<int64_t>(failure.code()))
      .Add("message", failure.message)
      .Add("group", failure.group)
      .Add("epoch", failure.epoch)
      .Add("culprits", failure.culprits)
      .Add("missing", failure.missing)
      .Add("sequence", failure.sequence)
      .Add("monotonic_ns", absl::ToUnixNanos(when));
}

JsonObject Failed(const absl::Status& status) {
  return JsonObject()
      .Add("ok", false)
      .Add("cause", "STATUS")
      .Add("code", static_cast<int64_t>(status.code()))
      .Add("message", std::string(status.message()))
      .Add("monotonic_ns", absl::ToUnixNanos(RealClock().Now()));
}

uint64_t Number(const std::string& text) {
  uint64_t number = 0;
  return absl::SimpleAtoi(text, &number) ? number : 0;
}

// The word at `index` as a duration; zero if there is none.
absl::Duration TimeoutAt(const Words& words, size_t index) {
  return absl::Milliseconds(index < words.size() ? Number(words[index]) : 0);
}

// The enumerator with this name; kNone if there is none.
template <typename Enum>
Enum Named(const std::string& name, Enum last) {
  for (int number = 1; number <= static_cast<int>(last); ++number) {
    if (NameOf(static_cast<Enum>(number)) == name) return static_cast<Enum>(number);
  }
  return Enum::kNone;
}

// Calls `f` with the tensor's elements as a span of their type; false for types that C++ lacks.
template <typename F>
bool WithElements(const Tensor& tensor, const F& f) {
  switch (tensor.dtype()) {
    case DataType::kFloat32:
      f(tensor.data<float>());
      return true;
    case DataType::kFloat64:
      f(tensor.data<double>());
      return true;
    case DataType::kInt32:
      f(tensor.data<int32_t>());
      return true;
    case DataType::kInt64:
      f(tensor.data<int64_t>());
      return true;
    default:
      return false;
  }
}

struct Submitted {
  Work work;
  MonotonicTime at;
};

class RankProcess {
 public:
  RankProcess() {
    commands_ = {
        {"connect", {4, [this](const Words& words) { return Connect(words); }}},
        {"join", {4, [this](const Words& words) { return Join(words); }}},
        {"tensor", {4, [this](const Words& words) { return NewTensor(words); }}},
        {"fill", {3, [this](const Words& words) { return Fill(words); }}},
        {"allreduce", {4, [this](const Words& words) { return AllReduce(words); }}},
        {"allreduce_to", {5, [this](const Words& words) { return AllReduceTo(words); }}},
        {"broadcast", {4, [this](const Words& words) { return Broadcast(words); }}},
        {"barrier", {2, [this](const Words& words) { return Barrier(words); }}},
        {"wait", {2, [this](const Words& words) { return Wait(words); }}},
        {"hash", {2, [this](const Words& words) { return Hash(words); }}},
        {"check", {3, [this](const Words& words) { return Check(words); }}},
        {"leave", {2, [this](const Words& words) { return Leave(words); }}},
        {"goodbye", {1, [this](const Words&) { return Goodbye(); }}},
        {"pid", {1, [](const Words&) { return Ok().Add("pid", static_cast<int64_t>(getpid())); }}},
    };
  }

  JsonObject Run(const Words& words) {
    const auto command = commands_.find(words[0]);
    if (command == commands_.end()) return Usage(absl::StrCat("no command ", words[0]));
    if (words.size() < command->second.words_min) return Usage("too few words");
    if (words[0] != "connect" && words[0] != "pid" && client_ == nullptr) {
      return Usage("not connected");
    }
    return command->second.run(words);
  }

 private:
  struct Command {
    size_t words_min;
    std::function<JsonObject(const Words&)> run;
  };

  JsonObject Connect(const Words& words) {
    auto client =
        Client::Connect({.socket_dir = words[1], .name_space = words[2], .label = words[3]});
    if (!client.ok()) return Failed(client.status());
    client_ = *std::move(client);
    return Ok().Add("session", client_->session_id());
  }

  JsonObject Join(const Words& words) {
    Result<Group> group = client_->Join({.group = words[1],
                                         .rank = static_cast<Rank>(Number(words[2])),
                                         .world_size = static_cast<uint32_t>(Number(words[3])),
                                         .join_timeout = TimeoutAt(words, 4)});
    if (!group.ok()) return Failed(group.failure(), RealClock().Now());
    groups_.insert_or_assign(words[1], *group);
    return Ok().Add("epoch", group->epoch());
  }

  JsonObject NewTensor(const Words& words) {
    const auto tensor = client_->NewTensor(Named(words[2], DataType::kFloat64), Number(words[3]));
    if (!tensor.ok()) return Failed(tensor.status());
    tensors_[words[1]] = *tensor;
    return Ok();
  }

  JsonObject Fill(const Words& words) {
    double value = 0;
    if (!absl::SimpleAtod(words[2], &value)) return Usage("not a number");
    const bool known = WithElements(tensors_[words[1]], [value](auto elements) {
      for (auto& element : elements) element = static_cast<std::decay_t<decltype(element)>>(value);
    });
    return known ? Ok() : Usage("no such tensor");
  }

  JsonObject Check(const Words& words) {
    double value = 0;
    if (!absl::SimpleAtod(words[2], &value)) return Usage("not a number");
    bool equal = true;
    const bool known = WithElements(tensors_[words[1]], [&](auto elements) {
      for (auto element : elements)
        equal = equal && element == static_cast<decltype(element)>(value);
    });
    return known ? Ok().Add("equal", equal) : Usage("no such tensor");
  }

  JsonObject Hash(const Words& words) {
    const Tensor& tensor = tensors_[words[1]];
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < tensor.size_bytes(); ++i) {
      hash = (hash ^ static_cast<uint64_t>(tensor.bytes()[i])) * 0x100000001b3;
    }
    return Ok().Add("hash", absl::StrCat(absl::Hex(hash, absl::kZeroPad16)));
  }

  JsonObject AllReduce(const Words& words) {
    const Group* const group = FindGroup(words[1]);
    if (group == nullptr) return Usage("no such group");
    return Submit([&] {
      return group->AllReduce(tensors_[words[2]], Named(words[3], ReduceOp::kAvg),
                              {.timeout = TimeoutAt(words, 4)});
    });
  }

  JsonObject AllReduceTo(const Words& words) {
    const Group* const group = FindGroup(words[1]);
    if (group == nullptr) return Usage("no such group");
    return Submit([&] {
      return group->AllReduce(tensors_[words[2]], tensors_[words[3]],
                              Named(words[4], ReduceOp::kAvg), {.timeout = TimeoutAt(words, 5)});
    });
  }

  JsonObject Broadcast(const Words& words) {
    const Group* const group = FindGroup(words[1]);
    if (group == nullptr) return Usage("no such group");
    return Submit([&] {
      return group->Broadcast(tensors_[words[2]], static_cast<Rank>(Number(words[3])),
                              {.timeout = TimeoutAt(words, 4)});
    });
  }

  JsonObject Barrier(const Words& words) {
    const Group* const group = FindGroup(words[1]);
    if (group == nullptr) return Usage("no such group");
    return Submit([&] { return group->Barrier({.timeout = TimeoutAt(words, 2)}); });
  }

  JsonObject Submit(const std::function<Work()>& submit) {
    const MonotonicTime at = RealClock().Now();
    works_.insert_or_assign(++last_work_, Submitted{submit(), at});
    return Ok().Add("work", last_work_);
  }

  JsonObject Wait(const Words& words) {
    const auto it = works_.find(Number(words[1]));
    if (it == works_.end()) return Usage("no such work");
    const Work work = it->second.work;
    const MonotonicTime submitted = it->second.at;
    const std::optional<Failure> failure = work.Wait();
    if (failure.has_value()) {
      // The client gave up itself if there is no verdict.
      return Failed(*failure, work.done() ? work.completed_at() : RealClock().Now());
    }
    return Ok()
        .Add("us", absl::ToInt64Microseconds(work.completed_at() - submitted))
        .Add("monotonic_ns", absl::ToUnixNanos(work.completed_at()));
  }

  JsonObject Leave(const Words& words) {
    const Group* const group = FindGroup(words[1]);
    if (group == nullptr) return Usage("no such group");
    const std::optional<Failure> failure = group->Leave();
    return failure.has_value() ? Failed(*failure, RealClock().Now()) : Ok();
  }

  JsonObject Goodbye() {
    client_.reset();
    return Ok();
  }

  const Group* FindGroup(const std::string& name) const {
    const auto it = groups_.find(name);
    return it == groups_.end() ? nullptr : &it->second;
  }

  std::map<std::string, Command> commands_;
  std::unique_ptr<Client> client_;
  std::map<std::string, Group> groups_;
  std::map<std::string, Tensor> tensors_;
  std::map<uint64_t, Submitted> works_;
  uint64_t last_work_ = 0;
};

int Main() {
  RankProcess process;
  std::string line;
  while (std::getline(std::cin, line)) {
    const Words words = absl::StrSplit(line, ' ', absl::SkipWhitespace());
    if (words.empty()) continue;
    if (words[0] == "exit") return 0;
    std::cout << process.Run(words).ToString() << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace tutti

int main() { return tutti::Main(); }
