// A rank that does what it is told: one command per line on stdin, one line of JSON for each on
// stdout. Fault tests run several, and stop and kill them.
//
//   connect DIR NAMESPACE LABEL              {"ok":true,"session":4}
//   join GROUP RANK WORLD [TIMEOUT_MS]       {"ok":true,"epoch":1}
//   tensor NAME DTYPE COUNT                  {"ok":true}          in memory shared with the daemon
//   plain NAME DTYPE COUNT                   {"ok":true}          in memory of this process
//   fill T VALUE [STEP [PERIOD]]             {"ok":true}          VALUE + STEP * (i % PERIOD)
//   set T VALUE,VALUE...                     {"ok":true}          the first elements
//   check T VALUE [STEP [PERIOD]]            {"ok":true,"equal":true}   every element? else "first"
//   values T                                 {"ok":true,"values":[1,2.5]}
//   hash T                                   {"ok":true,"hash":..}      FNV-1a of the bytes
//   allreduce GROUP T OP [TIMEOUT_MS]        {"ok":true,"work":1}       submitted; wait tells more
//   ...                                      the other operations, and tensors: rank_operations.h
//   wait N                                   {"ok":true,"us":..,"monotonic_ns":..}
//   done N                                   {"ok":true,"done":false}
//   agree GROUP 0|1 [TIMEOUT_MS]             {"ok":true,"agreed":true}
//   storm ROUNDS GROUP,GROUP...              {"ok":true,"works":..,"problem":""}   storm.h
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
#include "tests/harness/elements.h"
#include "tests/harness/json.h"
#include "tests/harness/rank_operations.h"
#include "tests/harness/rank_tensors.h"
#include "tests/harness/rank_words.h"
#include "tests/harness/storm.h"

namespace tutti {
namespace {

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

// VALUE [STEP [PERIOD]] from word 2 on; nothing if they are no numbers. By default all elements are
// one period.
std::optional<Pattern> PatternOf(const Words& words) {
  Pattern pattern{.period = UINT64_MAX};
  if (!absl::SimpleAtod(words[2], &pattern.value)) return std::nullopt;
  if (words.size() > 3 && !absl::SimpleAtod(words[3], &pattern.step)) return std::nullopt;
  if (words.size() > 4) pattern.period = Number(words[4]);
  if (pattern.step == 0) pattern.period = 1;
  return pattern;
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
        {"plain", {4, [this](const Words& words) { return NewPlain(words); }}},
        {"fill", {3, [this](const Words& words) { return FillTensor(words); }}},
        {"set", {3, [this](const Words& words) { return Set(words); }}},
        {"check", {3, [this](const Words& words) { return Check(words); }}},
        {"values", {2, [this](const Words& words) { return ListValues(words); }}},
        {"hash", {2, [this](const Words& words) { return Hash(words); }}},
        {"wait", {2, [this](const Words& words) { return Wait(words); }}},
        {"done", {2, [this](const Words& words) { return IsDone(words); }}},
        {"agree", {3, [this](const Words& words) { return Agree(words); }}},
        {"storm", {3, [this](const Words& words) { return Storm(words); }}},
        {"leave", {2, [this](const Words& words) { return Leave(words); }}},
        {"goodbye", {1, [this](const Words&) { return Goodbye(); }}},
        {"pid", {1, [](const Words&) { return Ok().Add("pid", static_cast<int64_t>(getpid())); }}},
    };
  }

  JsonObject Run(const Words& words) {
    if (IsOperation(words)) return Start(words);
    const auto command = commands_.find(words[0]);
    if (command == commands_.end() || words.size() < command->second.words_min) {
      return Usage(absl::StrCat("no command ", words[0], " with so few words"));
    }
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
    tensors_.Put(words[1], *tensor);
    return Ok();
  }

  JsonObject NewPlain(const Words& words) {
    tensors_.PutPlain(words[1], Named(words[2], DataType::kFloat64), Number(words[3]));
    return Ok();
  }

  JsonObject FillTensor(const Words& words) {
    const std::optional<Elements> elements = tensors_.ElementsOf(words[1]);
    const std::optional<Pattern> pattern = PatternOf(words);
    if (!elements.has_value() || !pattern.has_value()) return Usage("no such tensor, or pattern");
    Fill(*elements, *pattern);
    return Ok();
  }

  JsonObject Set(const Words& words) {
    const std::optional<Elements> elements = tensors_.ElementsOf(words[1]);
    std::vector<double> values;
    for (const std::string& word : Words(absl::StrSplit(words[2], ','))) {
      if (!absl::SimpleAtod(word, &values.emplace_back())) return Usage("not a number");
    }
    if (!elements.has_value()) return Usage("no such tensor");
    SetValues(*elements, values);
    return Ok();
  }

  JsonObject Check(const Words& words) {
    const std::optional<Elements> elements = tensors_.ElementsOf(words[1]);
    const std::optional<Pattern> pattern = PatternOf(words);
    if (!elements.has_value() || !pattern.has_value()) return Usage("no such tensor, or pattern");
    const uint64_t first = FirstDifference(*elements, *pattern);
    if (first == elements->count) return Ok().Add("equal", true);
    return Ok().Add("equal", false).Add("first", first);
  }

  JsonObject ListValues(const Words& words) {
    const std::optional<Elements> elements = tensors_.ElementsOf(words[1]);
    return elements.has_value() ? Ok().Add("values", Values(*elements)) : Usage("no such tensor");
  }

  JsonObject Hash(const Words& words) {
    const std::optional<Elements> elements = tensors_.ElementsOf(words[1]);
    if (!elements.has_value()) return Usage("no such tensor");
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < elements->count * SizeOf(elements->dtype); ++i) {
      hash = (hash ^ static_cast<uint64_t>(elements->data[i])) * 0x100000001b3;
    }
    return Ok().Add("hash", absl::StrCat(absl::Hex(hash, absl::kZeroPad16)));
  }

  JsonObject Start(const Words& words) {
    const Group* const group = FindGroup(words[1]);
    if (group == nullptr) return Usage("no such group");
    const MonotonicTime at = RealClock().Now();
    works_.insert_or_assign(++last_work_, Submitted{Submit(words, *group, tensors_), at});
    return Ok().Add("work", last_work_);
  }

  JsonObject Agree(const Words& words) {
    const Group* const group = FindGroup(words[1]);
    if (group == nullptr) return Usage("no such group");
    const Result<bool> agreed = group->Agree(words[2] == "1", {.timeout = TimeoutAt(words, 3)});
    return agreed.ok() ? Ok().Add("agreed", *agreed) : Failed(agreed.failure(), RealClock().Now());
  }

  JsonObject Storm(const Words& words) {
    std::vector<Group> groups;
    for (const std::string& name : Words(absl::StrSplit(words[2], ','))) {
      const Group* const group = FindGroup(name);
      if (group == nullptr) return Usage("no such group");
      groups.push_back(*group);
    }
    const StormResult result = RunStorm(client_.get(), groups, Number(words[1]));
    return Ok().Add("works", result.works).Add("problem", result.problem);
  }

  JsonObject IsDone(const Words& words) {
    const auto it = works_.find(Number(words[1]));
    if (it == works_.end()) return Usage("no such work");
    return Ok().Add("done", it->second.work.done());
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
  RankTensors tensors_;
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
