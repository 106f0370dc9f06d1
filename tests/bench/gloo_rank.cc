// Contestant: Gloo as Debian packages it, over TCP, which is the only transport it has between
// processes. Algorithms are Gloo's defaults. On the loopback interface, or at the address that
// $TUTTI_BENCH_ADDRESS says.
#include <gloo/allgather.h>
#include <gloo/allreduce.h>
#include <gloo/alltoall.h>
#include <gloo/broadcast.h>
#include <gloo/gather.h>
#include <gloo/math.h>
#include <gloo/reduce.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/scatter.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/unbound_buffer.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/bench/rank_contestant.h"

namespace tutti::bench {
namespace {

using ::gloo::Context;

class GlooRank : public RankContestant {
 public:
  GlooRank(const Place& place, std::shared_ptr<Context> context)
      : RankContestant(place), context_(std::move(context)) {}

  // Gloo's reduce_scatter is a class for a number of elements that is a power of two, not one of
  // the operations that take options.
  bool Supports(Operation operation) const override {
    return operation != Operation::kReduceScatter;
  }

 protected:
  Buffers MakeBuffers(const Shape& shape) override {
    // Its reduce writes to the outputs of all ranks.
    scratch_.resize(shape.in_place && shape.outputs == 0 ? shape.count : 0);
    return memory_.Make(shape);
  }

  void FreeBuffers() override {
    memory_.Free();
    scratch_ = {};
  }

  void RunOperation(Operation operation) override {
    const size_t count = shape().count;
    const size_t all = place().world_size * count;
    switch (operation) {
      case Operation::kAllReduce:
        return AllReduce(count);
      case Operation::kReduce:
        return Reduce(count);
      case Operation::kBroadcast:
        return Broadcast(count);
      case Operation::kAllGather: {
        ::gloo::AllgatherOptions options(context_);
        options.setInput(memory_.inputs(), count);
        options.setOutput(memory_.outputs(), all);
        return ::gloo::allgather(options);
      }
      case Operation::kGather:
        return Gather(count, all);
      case Operation::kScatter:
        return Scatter(count);
      case Operation::kAllToAll: {
        ::gloo::AlltoallOptions options(context_);
        options.setInput(memory_.inputs(), all);
        options.setOutput(memory_.outputs(), all);
        return ::gloo::alltoall(options);
      }
      case Operation::kSendRecv:
        return SendOrReceive(count);
      case Operation::kReduceScatter:
        Die("not an operation of Gloo");
    }
  }

 private:
  void AllReduce(size_t count) {
    ::gloo::AllreduceOptions options(context_);
    options.setOutput(memory_.inputs(), count);
    options.setReduceFunction(Sum());
    ::gloo::allreduce(options);
  }

  void Reduce(size_t count) {
    ::gloo::ReduceOptions options(context_);
    options.setInput(memory_.inputs(), count);
    options.setOutput(is_root() ? memory_.inputs() : scratch_.data(), count);
    options.setRoot(kRoot);
    options.setReduceFunction(Sum());
    ::gloo::reduce(options);
  }

  void Broadcast(size_t count) {
    ::gloo::BroadcastOptions options(context_);
    options.setOutput(is_root() ? memory_.inputs() : memory_.outputs(), count);
    options.setRoot(kRoot);
    ::gloo::broadcast(options);
  }

  void Gather(size_t count, size_t all) {
    ::gloo::GatherOptions options(context_);
    options.setInput(memory_.inputs(), count);
    if (is_root()) options.setOutput(memory_.outputs(), all);
    options.setRoot(kRoot);
    ::gloo::gather(options);
  }

  void Scatter(size_t count) {
    ::gloo::ScatterOptions options(context_);
    std::vector<float*> parts;
    for (const absl::Span<float> part : buffers().inputs) parts.push_back(part.data());
    if (is_root()) options.setInputs(parts, count);
    options.setOutput(memory_.outputs(), count);
    options.setRoot(kRoot);
    ::gloo::scatter(options);
  }

  void SendOrReceive(size_t count) {
    const auto buffer = context_->createUnboundBuffer(
        sends() ? memory_.inputs() : memory_.outputs(), count * sizeof(float));
    if (sends()) {
      buffer->send(static_cast<int>(place().rank) + 1, kSlot);
      buffer->waitSend();
    } else {
      buffer->recv(static_cast<int>(place().rank) - 1, kSlot);
      buffer->waitRecv();
    }
  }

  static ::gloo::AllreduceOptions::Func Sum() {
    return static_cast<void (*)(void*, const void*, const void*, size_t)>(&::gloo::sum<float>);
  }

  // Collectives have numbers above 2^32.
  static constexpr uint64_t kSlot = 1;

  const std::shared_ptr<Context> context_;
  PlainMemory memory_;
  std::vector<float> scratch_;
};

int Main(int argc, char** argv) {
  const Arguments arguments = ParseArguments(argc, argv);
  const Place& place = arguments.place;
  const char* const named = std::getenv("TUTTI_BENCH_ADDRESS");
  const std::string address = named == nullptr ? "127.0.0.1" : named;
  ::gloo::transport::tcp::attr attributes(address.c_str());
  auto device = ::gloo::transport::tcp::CreateDevice(attributes);
  ::gloo::rendezvous::FileStore store(arguments.scratch);
  auto context = std::make_shared<::gloo::rendezvous::Context>(static_cast<int>(place.rank),
                                                               static_cast<int>(place.world_size));
  context->connectFullMesh(store, device);
  GlooRank rank(place, context);
  return Serve(arguments, place.world_size, absl::StrCat("Gloo, TCP, ", address), rank);
}

}  // namespace
}  // namespace tutti::bench

int main(int argc, char** argv) { return tutti::bench::Main(argc, argv); }
