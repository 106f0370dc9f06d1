#include "tests/harness/rank_operations.h"

#include <functional>
#include <map>
#include <string>

namespace tutti {
namespace {

// The words of one command, as what operations take.
class Arguments {
 public:
  Arguments(const Words& words, const RankTensors& tensors, size_t count)
      : words_(words), tensors_(tensors), options_{.timeout = TimeoutAt(words, count)} {}

  TensorRef Tensor(size_t index) const { return tensors_.Find(words_[index]); }
  TensorList List(size_t index) const { return tensors_.List(words_[index]); }
  ReduceOp Op(size_t index) const { return Named(words_[index], ReduceOp::kAvg); }
  Rank Root(size_t index) const { return static_cast<Rank>(Number(words_[index])); }
  const CallOptions& options() const { return options_; }

 private:
  const Words& words_;
  const RankTensors& tensors_;
  const CallOptions options_;
};

struct Command {
  // The command, the group, and what it takes.
  size_t words = 0;
  std::function<Work(const Group&, const Arguments&)> submit;
};

const std::map<std::string, Command>& Commands() {
  using G = Group;
  using A = Arguments;
  static const std::map<std::string, Command> commands = {
      {"allreduce",
       {4, [](const G& g, const A& a) { return g.AllReduce(a.Tensor(2), a.Op(3), a.options()); }}},
      {"allreduce_to",
       {5, [](const G& g,
              const A& a) { return g.AllReduce(a.Tensor(2), a.Tensor(3), a.Op(4), a.options()); }}},
      {"coalesced",
       {4, [](const G& g,
              const A& a) { return g.AllReduceCoalesced(a.List(2), a.Op(3), a.options()); }}},
      {"coalesced_to",
       {5,
        [](const G& g, const A& a) {
          return g.AllReduceCoalesced(a.List(2), a.List(3), a.Op(4), a.options());
        }}},
      {"reduce",
       {5, [](const G& g,
              const A& a) { return g.Reduce(a.Tensor(2), a.Root(3), a.Op(4), a.options()); }}},
      {"reduce_to",
       {6,
        [](const G& g, const A& a) {
          return g.Reduce(a.Tensor(2), a.Tensor(3), a.Root(4), a.Op(5), a.options());
        }}},
      {"broadcast",
       {4,
        [](const G& g, const A& a) { return g.Broadcast(a.Tensor(2), a.Root(3), a.options()); }}},
      {"barrier", {2, [](const G& g, const A& a) { return g.Barrier(a.options()); }}},
      {"allgather",
       {4,
        [](const G& g, const A& a) { return g.AllGather(a.Tensor(2), a.List(3), a.options()); }}},
      {"gather",
       {5, [](const G& g,
              const A& a) { return g.Gather(a.Tensor(2), a.List(3), a.Root(4), a.options()); }}},
      {"scatter",
       {5, [](const G& g,
              const A& a) { return g.Scatter(a.List(2), a.Tensor(3), a.Root(4), a.options()); }}},
      {"reduce_scatter",
       {5,
        [](const G& g, const A& a) {
          return g.ReduceScatter(a.List(2), a.Tensor(3), a.Op(4), a.options());
        }}},
      {"all_to_all",
       {4, [](const G& g, const A& a) { return g.AllToAll(a.List(2), a.List(3), a.options()); }}},
      {"send",
       {4, [](const G& g, const A& a) { return g.Send(a.Tensor(2), a.Root(3), a.options()); }}},
      {"recv",
       {4, [](const G& g, const A& a) { return g.Recv(a.Tensor(2), a.Root(3), a.options()); }}},
  };
  return commands;
}

}  // namespace

bool IsOperation(const Words& words) {
  const auto it = Commands().find(words[0]);
  return it != Commands().end() && words.size() >= it->second.words;
}

Work Submit(const Words& words, const Group& group, const RankTensors& tensors) {
  const Command& command = Commands().at(words[0]);
  return command.submit(group, Arguments(words, tensors, command.words));
}

}  // namespace tutti
