// What each operation of a group tells the daemon, against a scripted one: which spans, in which
// order, what is copied, and what is refused.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "client/cpp/testing/fake_daemon.h"
#include "client/cpp/tutti.h"

namespace tutti {
namespace {

using Spans = google::protobuf::RepeatedPtrField<v1::Span>;

// This rank is 1 of 3.
constexpr Rank kRank = 1;
constexpr uint32_t kWorld = 3;

// A client with a seat, and the works that its daemon has received.
class Scene {
 public:
  explicit Scene(FakeDaemon::Script script = {}) : daemon_(std::move(script)) {
    auto client = Client::Connect({.socket_dir = daemon_.dir()});
    REQUIRE(client.ok());
    client_ = *std::move(client);
    auto joined = client_->Join({.group = "g", .rank = kRank, .world_size = kWorld});
    REQUIRE(joined.ok());
    group_.emplace(*std::move(joined));
  }

  FakeDaemon& daemon() { return daemon_; }
  const Group& group() const { return *group_; }

  Tensor Make(size_t count, DataType dtype = DataType::kFloat32) {
    auto tensor = client_->NewTensor(dtype, count);
    REQUIRE(tensor.ok());
    return *tensor;
  }

  // The message of an operation that ends well.
  v1::Work Sent(const Work& work) {
    const auto failure = work.Wait();
    INFO((failure.has_value() ? failure->message : ""));
    REQUIRE_FALSE(failure.has_value());
    return daemon_.received().back();
  }

  // That of one that is refused: it has to be there, without tensors, for the other ranks.
  Failure Refused(const Work& work) {
    const auto failure = work.Wait();
    REQUIRE(failure.has_value());
    CHECK(failure->group == "g");
    const std::vector<v1::Work> received = daemon_.received();
    CHECK(received.back().inputs_size() == 0);
    CHECK(received.back().outputs_size() == 0);
    return *failure;
  }

 private:
  FakeDaemon daemon_;
  std::unique_ptr<Client> client_;
  std::optional<Group> group_;
};

// The spans name these tensors, in this order.
void CheckNames(FakeDaemon& daemon, const Spans& spans, const std::vector<Tensor>& tensors) {
  REQUIRE(spans.size() == static_cast<int>(tensors.size()));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const v1::Span& span = spans[static_cast<int>(i)];
    INFO("tensor " << i);
    CHECK(span.length() == tensors[i].size_bytes());
    if (tensors[i].count() == 0) continue;
    // The same memory, mapped twice: what is written on one side is seen on the other.
    std::memset(tensors[i].bytes(), static_cast<int>(i + 1), tensors[i].size_bytes());
    const std::byte* const seen = daemon.memory(span);
    CHECK(static_cast<size_t>(seen[0]) == i + 1);
    CHECK(static_cast<size_t>(seen[span.length() - 1]) == i + 1);
  }
}

bool IsSame(const v1::Span& a, const v1::Span& b) {
  return a.SerializeAsString() == b.SerializeAsString();
}

float* Floats(std::byte* bytes) { return reinterpret_cast<float*>(bytes); }

TEST_CASE("an allreduce in place names one span, else two") {
  Scene scene;
  const Tensor a = scene.Make(5);
  const Tensor b = scene.Make(5);
  const v1::Work in_place = scene.Sent(scene.group().AllReduce(a, ReduceOp::kMin));
  CHECK(in_place.op() == v1::REDUCE_OP_MIN);
  CHECK(IsSame(in_place.inputs(0), in_place.outputs(0)));
  const v1::Work apart = scene.Sent(scene.group().AllReduce(a, b));
  CHECK(apart.op() == v1::REDUCE_OP_SUM);
  CheckNames(scene.daemon(), apart.inputs(), {a});
  CheckNames(scene.daemon(), apart.outputs(), {b});
}

TEST_CASE("a coalesced allreduce names all its tensors in order, those without elements too") {
  Scene scene;
  const std::vector<Tensor> tensors = {scene.Make(3), scene.Make(0), scene.Make(1000)};
  const std::vector<Tensor> others = {scene.Make(3), scene.Make(0), scene.Make(1000)};
  const v1::Work in_place = scene.Sent(scene.group().AllReduceCoalesced(tensors));
  CHECK(in_place.kind() == v1::COLLECTIVE_KIND_ALLREDUCE);
  CheckNames(scene.daemon(), in_place.inputs(), tensors);
  for (int i = 0; i < 3; ++i) CHECK(IsSame(in_place.inputs(i), in_place.outputs(i)));
  const v1::Work apart =
      scene.Sent(scene.group().AllReduceCoalesced(tensors, others, ReduceOp::kAvg));
  CheckNames(scene.daemon(), apart.outputs(), others);
  CHECK(apart.op() == v1::REDUCE_OP_AVG);
}

TEST_CASE("a thousand slices of one tensor are a thousand spans") {
  Scene scene;
  const Tensor tensor = scene.Make(4000);
  std::vector<Tensor> slices;
  for (size_t i = 0; i < 1000; ++i) slices.push_back(tensor.Slice(4 * i, 4));
  const v1::Work work = scene.Sent(scene.group().AllReduceCoalesced(slices));
  REQUIRE(work.inputs_size() == 1000);
  for (int i = 1; i < 1000; ++i) {
    CHECK(work.inputs(i).arena() == work.inputs(0).arena());
    CHECK(work.inputs(i).offset() == work.inputs(i - 1).offset() + 16);
    CHECK(work.inputs(i).length() == 16);
  }
}

TEST_CASE("what only the root takes") {
  Scene scene;
  const Group& group = scene.group();
  const Tensor one = scene.Make(4);
  const Tensor other = scene.Make(4);
  const std::vector<Tensor> list = {scene.Make(4), scene.Make(4), scene.Make(4)};
  struct Case {
    Work work;
    Rank root;
    std::vector<Tensor> inputs;
    std::vector<Tensor> outputs;
  };
  const std::vector<Case> cases = {
      {group.Reduce(one, kRank), kRank, {one}, {one}},
      {group.Reduce(one, 0), 0, {one}, {}},
      {group.Reduce(one, other, kRank), kRank, {one}, {other}},
      {group.Reduce(one, {}, 2), 2, {one}, {}},
      {group.Broadcast(one, kRank), kRank, {one}, {}},
      {group.Broadcast(one, 2), 2, {}, {one}},
      {group.Gather(one, list, kRank), kRank, {one}, list},
      {group.Gather(one, {}, 0), 0, {one}, {}},
      {group.Scatter(list, one, kRank), kRank, list, {one}},
      {group.Scatter({}, one, 2), 2, {}, {one}},
  };
  for (const Case& test : cases) REQUIRE_FALSE(test.work.Wait().has_value());
  const std::vector<v1::Work> received = scene.daemon().received();
  REQUIRE(received.size() == cases.size());
  for (size_t i = 0; i < cases.size(); ++i) {
    INFO("case " << i);
    CHECK(received[i].root() == cases[i].root);
    CheckNames(scene.daemon(), received[i].inputs(), cases[i].inputs);
    CheckNames(scene.daemon(), received[i].outputs(), cases[i].outputs);
  }
  CHECK(received[0].kind() == v1::COLLECTIVE_KIND_REDUCE);
  CHECK(received[6].kind() == v1::COLLECTIVE_KIND_GATHER);
  CHECK(received[8].kind() == v1::COLLECTIVE_KIND_SCATTER);
  CHECK(received[8].op() == v1::REDUCE_OP_UNSPECIFIED);
}

TEST_CASE("operations with lists at all ranks") {
  Scene scene;
  const Group& group = scene.group();
  const Tensor whole = scene.Make(12);
  const std::vector<Tensor> list = {whole.Slice(0, 4), whole.Slice(4, 4), whole.Slice(8, 4)};
  const std::vector<Tensor> uneven = {scene.Make(1), scene.Make(0), scene.Make(7)};
  const Tensor one = scene.Make(4);

  const v1::Work gathered = scene.Sent(group.AllGather(list[kRank], list));
  CHECK(gathered.kind() == v1::COLLECTIVE_KIND_ALLGATHER);
  CheckNames(scene.daemon(), gathered.outputs(), list);
  CHECK(IsSame(gathered.inputs(0), gathered.outputs(kRank)));

  const v1::Work scattered = scene.Sent(group.ReduceScatter(list, one, ReduceOp::kMax));
  CHECK(scattered.kind() == v1::COLLECTIVE_KIND_REDUCE_SCATTER);
  CHECK(scattered.op() == v1::REDUCE_OP_MAX);
  CheckNames(scene.daemon(), scattered.inputs(), list);
  CheckNames(scene.daemon(), scattered.outputs(), {one});

  const v1::Work exchanged = scene.Sent(group.AllToAll(uneven, list));
  CHECK(exchanged.kind() == v1::COLLECTIVE_KIND_ALL_TO_ALL);
  CheckNames(scene.daemon(), exchanged.inputs(), uneven);
  CheckNames(scene.daemon(), exchanged.outputs(), list);
}

TEST_CASE("operations of pairs name the other rank") {
  Scene scene;
  const Tensor tensor = scene.Make(4);
  const v1::Work sent = scene.Sent(scene.group().Send(tensor, 2));
  CHECK((sent.kind() == v1::COLLECTIVE_KIND_SEND && sent.root() == 2));
  CHECK((sent.inputs_size() == 1 && sent.outputs_size() == 0));
  const v1::Work received = scene.Sent(scene.group().Recv(tensor, 0, {.timeout = absl::Hours(24)}));
  CHECK((received.kind() == v1::COLLECTIVE_KIND_RECV && received.root() == 0));
  CHECK((received.inputs_size() == 0 && received.outputs_size() == 1));
  CHECK(received.timeout_ms() == 24 * 3'600'000);
}

TEST_CASE("agree tells what all have agreed on") {
  for (const bool agreed : {true, false}) {
    Scene scene({.execute = [agreed](const v1::Work& work, const FakeDaemon::Memory& memory) {
      std::byte& flag = *memory(work.outputs(0));
      // What this rank gave, if the others agree.
      flag = agreed ? *memory(work.inputs(0)) : std::byte{0};
    }});
    const Result<bool> result = scene.group().Agree(true);
    REQUIRE(result.ok());
    CHECK(*result == agreed);
    const v1::Work work = scene.daemon().received().back();
    CHECK(work.kind() == v1::COLLECTIVE_KIND_AGREE);
    CHECK(work.dtype() == v1::DATA_TYPE_BOOL);
    CHECK(work.op() == v1::REDUCE_OP_UNSPECIFIED);
    CHECK(IsSame(work.inputs(0), work.outputs(0)));
    CHECK(work.inputs(0).length() == 1);
  }
  Scene failing({.mind = [](const v1::Work&) { return FakeDaemon::Mind::kFail; }});
  CHECK(failing.group().Agree(true).failure().cause == Cause::kRankDied);
}

TEST_CASE("plain memory is copied in if it is read, and back if it is written") {
  Scene scene({.execute = [](const v1::Work& work, const FakeDaemon::Memory& memory) {
    // 9 if what was put in is there.
    const float seen = work.inputs_size() == 0 ? 1 : Floats(memory(work.inputs(0)))[0];
    for (const v1::Span& output : work.outputs()) Floats(memory(output))[0] = 8 + seen;
  }});
  const Group& group = scene.group();
  std::vector<float> in = {1, 1};
  std::vector<std::vector<float>> out = {{2, 2}, {2, 2}, {2, 2}};
  const v1::Work gathered = scene.Sent(group.AllGather(in, out));
  CHECK(in[0] == 1);
  for (const auto& each : out) CHECK(each[0] == 9);
  // All in one block, each at a cache line of its own.
  for (int i = 0; i < 3; ++i) {
    CHECK(gathered.outputs(i).arena() == gathered.inputs(0).arena());
    CHECK(gathered.outputs(i).offset() == gathered.inputs(0).offset() + 64 * (i + 1));
    CHECK(gathered.outputs(i).length() == 8);
  }

  std::array<float, 1> received = {0};
  CHECK_FALSE(group.Recv(received, 0).Wait().has_value());
  CHECK(received[0] == 9);
  const std::vector<float> constant = {5};
  const v1::Work sent =
      scene.Sent(group.Send(TensorRef::ReadOnly(absl::MakeConstSpan(constant)), 0));
  CHECK(Floats(scene.daemon().memory(sent.inputs(0)))[0] == 5);
}

TEST_CASE("plain memory and tensors in one operation") {
  Scene scene({.execute = [](const v1::Work& work, const FakeDaemon::Memory& memory) {
    for (int i = 0; i < work.inputs_size(); ++i) {
      Floats(memory(work.outputs(i)))[0] = 10 * Floats(memory(work.inputs(i)))[0];
    }
  }});
  const Tensor tensor = scene.Make(1);
  tensor.data<float>()[0] = 1;
  std::vector<float> plain = {2};
  std::vector<float> other = {3};
  CHECK_FALSE(scene.group().AllReduceCoalesced({tensor, plain, other}).Wait().has_value());
  CHECK(tensor.data<float>()[0] == 10);
  CHECK(plain[0] == 20);
  CHECK(other[0] == 30);
}

TEST_CASE("plain memory in place is one span where the operation works in place") {
  Scene scene;
  const Group& group = scene.group();
  std::vector<float> whole(6);
  const auto part = [&](size_t rank) { return absl::MakeSpan(whole).subspan(2 * rank, 2); };
  std::vector<absl::Span<float>> list = {part(0), part(1), part(2)};

  const v1::Work reduced = scene.Sent(group.AllReduce(absl::MakeSpan(whole)));
  CHECK(IsSame(reduced.inputs(0), reduced.outputs(0)));
  const v1::Work gathered = scene.Sent(group.AllGather(part(kRank), list));
  CHECK(IsSame(gathered.inputs(0), gathered.outputs(kRank)));
  const v1::Work scattered = scene.Sent(group.ReduceScatter(list, part(kRank)));
  CHECK(IsSame(scattered.inputs(kRank), scattered.outputs(0)));
  const v1::Work exchanged = scene.Sent(group.AllToAll(list, list));
  for (int i = 0; i < 3; ++i) CHECK(IsSame(exchanged.inputs(i), exchanged.outputs(i)));

  // Another rank's part is copied, and so it may be written: the copies are apart.
  const v1::Work apart = scene.Sent(group.ReduceScatter(list, part(0)));
  for (int i = 0; i < 3; ++i) CHECK_FALSE(IsSame(apart.inputs(i), apart.outputs(0)));
}

TEST_CASE("types that C++ does not have, at any address") {
  Scene scene({.execute = [](const v1::Work& work, const FakeDaemon::Memory& memory) {
    const auto* const in = reinterpret_cast<const char*>(memory(work.inputs(0)));
    auto* const out = reinterpret_cast<char*>(memory(work.outputs(0)));
    std::transform(in, in + 6, out,
                   [](char c) { return absl::ascii_toupper(static_cast<unsigned char>(c)); });
  }});
  std::string bytes = "-abcdef-";
  const v1::Work work =
      scene.Sent(scene.group().AllReduce({bytes.data() + 1, DataType::kFloat16, 3}));
  CHECK(work.dtype() == v1::DATA_TYPE_FLOAT16);
  CHECK(bytes == "-ABCDEF-");
}

TEST_CASE("without elements there is still an operation") {
  Scene scene;
  std::vector<float> nothing;
  const v1::Work plain = scene.Sent(scene.group().AllReduce(nothing));
  CHECK((plain.inputs(0).length() == 0 && plain.dtype() == v1::DATA_TYPE_FLOAT32));
  const v1::Work tensor = scene.Sent(scene.group().AllReduce(scene.Make(8).Slice(8, 0)));
  CHECK((tensor.inputs_size() == 1 && tensor.inputs(0).length() == 0));
}

TEST_CASE("what is wrong here is told here, and submitted without tensors") {
  Scene scene;
  Scene other;
  const Group& group = scene.group();
  const Tensor floats = scene.Make(4);
  const Tensor ints = scene.Make(4, DataType::kInt32);
  const Tensor foreign = other.Make(4);
  const std::vector<float> constant(4);
  const TensorRef read_only = TensorRef::ReadOnly(absl::MakeConstSpan(constant));
  struct Case {
    Work work;
    const char* message;
  };
  const std::vector<Case> cases = {
      {group.AllReduce(Tensor()), "never made"},
      {group.AllReduceCoalesced({floats, {}, floats}), "never made"},
      {group.Reduce(floats, {}, kRank), "never made"},
      {group.AllReduceCoalesced({}), "allreduce of no tensors"},
      {group.Send(Tensor(), 0), "never made"},
      {group.Broadcast(Tensor(), 0), "never made"},
      {group.AllGather(floats, {floats, foreign, floats}), "another client"},
      {group.AllReduce(floats, ints), "float32 and int32"},
      {group.AllToAll({floats, floats, ints}, {floats, floats, floats}), "float32 and int32"},
      {group.AllReduce(read_only), "only to be read"},
      {group.Recv(read_only, 0), "only to be read"},
      {group.AllReduce({nullptr, DataType::kFloat32, 4}), "no address"},
      {group.AllReduce({nullptr, DataType::kNone, 0}), "element type"},
      {group.AllReduce({&scene, DataType::kFloat64, SIZE_MAX / 8}), "float64"},
  };
  for (const Case& test : cases) {
    INFO(test.message);
    const Failure failure = scene.Refused(test.work);
    CHECK(failure.cause == Cause::kInvalid);
    CHECK_THAT(failure.message, Catch::Contains(test.message));
  }
  CHECK(scene.daemon().received().size() == cases.size());
}

TEST_CASE("no memory for copies fails with the daemon's limit") {
  Scene scene({.arenas_max = 0});
  std::vector<float> values(4);
  CHECK(scene.Refused(scene.group().AllReduce(values)).cause == Cause::kLimit);
}

TEST_CASE("tensors live until the operation that uses them has completed") {
  Scene scene({.mind = [](const v1::Work&) { return FakeDaemon::Mind::kHold; }});
  std::optional<Work> work;
  const std::byte* begin = nullptr;
  {
    const Tensor tensor = scene.Make(1000);
    begin = tensor.bytes();
    work = scene.group().AllReduce(tensor.Slice(10, 20));
  }
  scene.daemon().AwaitReceived(1);
  CHECK(scene.Make(1000).bytes() != begin);
  // Completions come in order: that of the next tells that this one has been dealt with.
  const Work next = scene.group().Barrier();
  scene.daemon().AwaitReceived(2);
  scene.daemon().Release();
  CHECK_FALSE(next.Wait().has_value());
  CHECK_FALSE(work->Wait().has_value());
  CHECK(scene.Make(1000).bytes() == begin);
}

}  // namespace
}  // namespace tutti
