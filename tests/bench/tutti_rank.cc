// Contestant: Tutti's C++ client, with tensors in an arena.
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/cpp/tutti.h"
#include "tests/bench/rank_contestant.h"

namespace tutti::bench {
namespace {

class TuttiRank : public RankContestant {
 public:
  TuttiRank(const Place& place, Client& client, Group group)
      : RankContestant(place), client_(client), group_(std::move(group)) {}

  bool Supports(Operation) const override { return true; }

 protected:
  Buffers MakeBuffers(const Shape& shape) override {
    Buffers buffers;
    MakeTensors(shape.inputs, shape.count, inputs_, buffers.inputs);
    if (shape.in_place) {
      outputs_.assign(inputs_.begin(), inputs_.begin() + static_cast<ptrdiff_t>(shape.outputs));
      for (const Tensor& tensor : outputs_) buffers.outputs.push_back(tensor.data<float>());
    } else {
      MakeTensors(shape.outputs, shape.count, outputs_, buffers.outputs);
    }
    return buffers;
  }

  void FreeBuffers() override {
    inputs_.clear();
    outputs_.clear();
  }

  void RunOperation(Operation operation) override {
    const std::optional<Failure> failure = Submit(operation).Wait();
    if (failure.has_value()) Fail(failure->message);
  }

 private:
  Work Submit(Operation operation) {
    switch (operation) {
      case Operation::kAllReduce:
        return group_.AllReduce(inputs_[0]);
      case Operation::kReduce:
        return group_.Reduce(inputs_[0], kRoot);
      case Operation::kBroadcast:
        return group_.Broadcast(is_root() ? inputs_[0] : outputs_[0], kRoot);
      case Operation::kAllGather:
        return group_.AllGather(inputs_[0], outputs_);
      case Operation::kGather:
        return group_.Gather(inputs_[0], outputs_, kRoot);
      case Operation::kScatter:
        return group_.Scatter(inputs_, outputs_[0], kRoot);
      case Operation::kReduceScatter:
        return group_.ReduceScatter(inputs_, outputs_[0]);
      case Operation::kAllToAll:
        return group_.AllToAll(inputs_, outputs_);
      case Operation::kSendRecv:
        break;
    }
    return sends() ? group_.Send(inputs_[0], place().rank + 1)
                   : group_.Recv(outputs_[0], place().rank - 1);
  }

  void MakeTensors(size_t parts, size_t count, std::vector<Tensor>& tensors,
                   std::vector<absl::Span<float>>& spans) {
    for (size_t part = 0; part < parts; ++part) {
      auto tensor = client_.NewTensor(DataType::kFloat32, count);
      if (!tensor.ok()) Die(std::string(tensor.status().message()));
      tensors.push_back(*tensor);
      spans.push_back(tensor->data<float>());
    }
  }

  Client& client_;
  const Group group_;
  std::vector<Tensor> inputs_;
  std::vector<Tensor> outputs_;
};

int Main(int argc, char** argv) {
  const Arguments arguments = ParseArguments(argc, argv);
  const Place& place = arguments.place;
  auto client = Client::Connect({});
  if (!client.ok()) Die(std::string(client.status().message()));
  auto group = (*client)->Join(
      {.group = arguments.name, .rank = place.rank, .world_size = place.world_size});
  if (!group.ok()) Die(group.failure().message);
  TuttiRank rank(place, **client, *group);
  return Serve(arguments, place.world_size, "Tutti, C++ client, tensors in an arena", rank);
}

}  // namespace
}  // namespace tutti::bench

int main(int argc, char** argv) { return tutti::bench::Main(argc, argv); }
