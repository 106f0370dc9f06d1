#include "backends/gloo/gloo_backend.h"

#include <sys/resource.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <list>
#include <numeric>
#include <thread>

#include "absl/strings/str_cat.h"
#include "backends/gloo/testing/multi_node.h"
#include "base/failpoint.h"
#include "base/thread.h"

namespace tutti {
namespace {

const bool kSigpipeIgnored = std::signal(SIGPIPE, SIG_IGN) != SIG_ERR;

std::unique_ptr<Cluster> Connect(GlooBackend* backend, const Nodes& nodes) {
  auto made = Cluster::Make(nodes, [&](const GroupSpec& spec) { return backend->Connect(spec); });
  REQUIRE(made.ok());
  return *std::move(made);
}

GroupSpec SpecOf(const Nodes& nodes, size_t node) {
  GroupSpec spec{.local_ranks = nodes[node], .nodes = nodes, .node = node, .epoch_id = "e"};
  for (const std::vector<Rank>& ranks : nodes) {
    spec.world_size += static_cast<uint32_t>(ranks.size());
  }
  spec.meet = [](std::string) { return absl::StatusOr<std::vector<std::string>>(); };
  return spec;
}

// One tensor for each rank, in place: rank r's elements are r + 1.
struct Tensors {
  Tensors(uint32_t ranks, size_t count, CollectiveKind kind = CollectiveKind::kAllreduce)
      : memory(ranks, std::vector<int64_t>(count)) {
    collective = {.kind = kind,
                  .dtype = DataType::kInt64,
                  .op = Reduces(kind) ? ReduceOp::kSum : ReduceOp::kNone,
                  .count = count,
                  .world_size = ranks};
    for (Rank rank = 0; rank < ranks; ++rank) {
      std::fill(memory[rank].begin(), memory[rank].end(), rank + 1);
      const Buffer buffer{.data = reinterpret_cast<std::byte*>(memory[rank].data()),
                          .size_bytes = count * sizeof(int64_t)};
      Participant& part = collective.participants.emplace_back();
      part.rank = rank;
      part.outputs = {buffer};
      if (kind != CollectiveKind::kBroadcast || rank == 0) part.inputs = {buffer};
    }
  }
  bool All(int64_t value) const {
    for (const std::vector<int64_t>& tensor : memory) {
      for (const int64_t element : tensor) {
        if (element != value) return false;
      }
    }
    return true;
  }
  bool Untouched() const {
    for (size_t rank = 0; rank < memory.size(); ++rank) {
      for (const int64_t element : memory[rank]) {
        if (element != static_cast<int64_t>(rank) + 1) return false;
      }
    }
    return true;
  }
  std::vector<std::vector<int64_t>> memory;
  Collective collective;
};

// An all_to_all of `count` bytes each, in place; `odd` is what rank 0 expects of the last rank.
struct Exchanged {
  Exchanged(uint32_t ranks, size_t count, size_t odd) : memory(ranks) {
    collective = {
        .kind = CollectiveKind::kAllToAll, .dtype = DataType::kUint8, .world_size = ranks};
    for (Rank rank = 0; rank < ranks; ++rank) {
      Participant& part = collective.participants.emplace_back();
      part.rank = rank;
      memory[rank].assign(ranks, std::vector<std::byte>(count, std::byte{7}));
      for (Rank other = 0; other < ranks; ++other) {
        const Buffer buffer{.data = memory[rank][other].data(), .size_bytes = count};
        part.inputs.push_back(buffer);
        part.outputs.push_back(buffer);
      }
    }
    collective.participants[0].outputs.back().size_bytes = odd;
  }
  std::vector<std::vector<std::vector<std::byte>>> memory;
  Collective collective;
};

void WaitUntilHeld(std::string_view failpoint, uint32_t held) {
  while (SetFailpoint(failpoint, FailpointAction::kQuery, 0).held < held) std::this_thread::yield();
}

TEST_CASE("What is not supported is named") {
  const GlooBackend backend("127.0.0.1");
  CHECK(backend.Supports(CollectiveKind::kRecv, DataType::kFloat32, ReduceOp::kNone).message() ==
        "the gloo backend has no recv of float32");
  CHECK(backend.Supports(CollectiveKind::kSend, DataType::kBool, ReduceOp::kNone).ok());
  CHECK(backend.nodes_max() == 32);
}

TEST_CASE("Groups that cannot be connected are refused") {
  REQUIRE(kSigpipeIgnored);
  GlooBackend backend("127.0.0.1");
  const auto refusal = [&](const GroupSpec& spec) { return backend.Connect(spec).status(); };
  CHECK(absl::IsInvalidArgument(refusal(SpecOf(Consecutive(std::vector<size_t>(33, 1)), 0))));
  GroupSpec spec = SpecOf({{0, 1}, {2}}, 0);
  spec.local_ranks = {0};
  CHECK(absl::IsInvalidArgument(refusal(spec)));
  CHECK(absl::IsInvalidArgument(refusal(SpecOf({{0, 1}, {1}}, 0))));
  CHECK(absl::IsInvalidArgument(refusal(SpecOf({{0, 3}, {1}}, 0))));
  spec = SpecOf({{0}, {1}}, 0);
  spec.meet = nullptr;
  CHECK(absl::IsInvalidArgument(refusal(spec)));
}

TEST_CASE("As many nodes as there may be") {
  // All are here, with a connection for each two of them, which has two ends.
  rlimit files{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &files) == 0);
  files.rlim_cur = files.rlim_max;
  REQUIRE(setrlimit(RLIMIT_NOFILE, &files) == 0);
  GlooBackend backend("127.0.0.1");
  const auto nodes = static_cast<uint32_t>(backend.nodes_max());
  const auto cluster = Connect(&backend, Consecutive(std::vector<size_t>(nodes, 1)));
  const int64_t sum = nodes * (nodes + 1) / 2;
  for (const size_t count : {10, 200'000}) {
    Tensors tensors(nodes, count);
    REQUIRE(cluster->Run(tensors.collective).ok());
    CHECK(tensors.All(sum));
  }
}

TEST_CASE("An address that is none of this machine is refused") {
  for (const char* const address : {"no.such.host.invalid", "192.0.2.1", "", "127.0.0.1:1"}) {
    GlooBackend backend(address);
    CHECK(absl::IsFailedPrecondition(backend.Connect(SpecOf({{0}, {1}}, 0)).status()));
  }
}

TEST_CASE("If the nodes do not meet, the reason is passed on") {
  GlooBackend backend("127.0.0.1");
  GroupSpec spec = SpecOf({{0}, {1}}, 0);
  spec.meet = [](const std::string&) { return absl::DeadlineExceededError("nobody came"); };
  CHECK(backend.Connect(spec).status() == absl::DeadlineExceededError("nobody came"));
  spec.meet = [](const std::string& mine) {
    return std::vector<std::string>{mine, "something else"};
  };
  CHECK(absl::IsInternal(backend.Connect(spec).status()));
  // An address where nobody listens.
  spec.meet = [](const std::string& mine) { return std::vector<std::string>{mine, mine}; };
  CHECK(absl::IsUnavailable(backend.Connect(spec).status()));
}

TEST_CASE("IPv6 will do") {
  GlooBackend backend("::1");
  const auto made = Cluster::Make(Consecutive({1, 1}),
                                  [&](const GroupSpec& spec) { return backend.Connect(spec); });
  // Not every machine has it.
  if (!made.ok()) {
    CHECK(absl::IsFailedPrecondition(made.status()));
    return;
  }
  Tensors tensors(2, 10);
  CHECK((*made)->Run(tensors.collective).ok());
  CHECK(tensors.All(3));
}

TEST_CASE("Nodes that disagree write nothing, and go on") {
  GlooBackend backend("127.0.0.1");
  const auto cluster = Connect(&backend, Consecutive({2, 1, 2}));
  for (const size_t large : {size_t{10}, size_t{1'000'000}}) {
    Tensors a(5, large);
    Tensors b(5, 100, CollectiveKind::kBroadcast);
    Exchanged c(5, large, large);
    SameWords says_a("a");
    SameWords says_b("b");
    SameWords says_c("c");
    const auto verdicts = cluster->RunParts({cluster->PartOf(a.collective, 0, &says_a),
                                             cluster->PartOf(b.collective, 1, &says_b),
                                             cluster->PartOf(c.collective, 2, &says_c)});
    for (const absl::Status& verdict : verdicts) CHECK(verdict.ok());
    CHECK(a.Untouched());
    CHECK(b.Untouched());
    CHECK(says_a.said() == std::vector<std::string>{"a", "b", "c"});
    CHECK(says_b.said() == says_a.said());
    CHECK(says_c.said() == says_a.said());
    Tensors next(5, large);
    CHECK(cluster->Run(next.collective).ok());
    CHECK(next.All(15));
  }
}

TEST_CASE("A node that would not listen to the others would write") {
  if (!kFailpointsBuiltIn) return;
  GlooBackend backend("127.0.0.1");
  const auto cluster = Connect(&backend, Consecutive({1, 1}));
  Tensors tensors(2, 10);
  SameWords a("a");
  SameWords b("b");
  const std::vector<Collective> parts = {cluster->PartOf(tensors.collective, 0, &a),
                                         cluster->PartOf(tensors.collective, 1, &b)};
  cluster->RunParts(parts);
  CHECK(tensors.Untouched());
  SetFailpoint("gloo.disagree", FailpointAction::kMutate, 1);
  cluster->RunParts(parts);
  SetFailpoint("gloo.disagree", FailpointAction::kOff, 0);
  CHECK(tensors.All(3));
}

TEST_CASE("A node that has refused the operation takes part in the agreement only") {
  GlooBackend backend("127.0.0.1");
  const auto cluster = Connect(&backend, Consecutive({2, 2}));
  for (const size_t count : {size_t{10}, size_t{1'000'000}}) {
    Tensors tensors(4, count);
    SameWords says_a("allreduce");
    SameWords says_b(std::string(kSaidBytesMax, 'x'));
    const Collective refused{.world_size = 4, .agreement = &says_b};
    auto verdicts = cluster->RunParts({cluster->PartOf(tensors.collective, 0, &says_a), refused});
    CHECK(verdicts[0].ok());
    CHECK(verdicts[1].ok());
    CHECK(tensors.Untouched());
    CHECK(cluster->Run(tensors.collective).ok());
    CHECK(tensors.All(10));
  }
}

TEST_CASE("Sizes of an all_to_all that do not match are no error of the communicator") {
  GlooBackend backend("127.0.0.1");
  const auto cluster = Connect(&backend, Consecutive({2, 2}));
  Exchanged wrong(4, 1000, 999);
  CHECK(cluster->Run(wrong.collective).ok());
  CHECK(wrong.memory[0][3][0] == std::byte{7});
  Exchanged right(4, 1000, 1000);
  right.memory[3][0][999] = std::byte{1};
  CHECK(cluster->Run(right.collective).ok());
  CHECK(right.memory[0][3][999] == std::byte{1});
}

TEST_CASE("Many ranks make rows that do not fit a frame") {
  GlooBackend backend("127.0.0.1", {.small_bytes = 100});
  const auto cluster = Connect(&backend, Consecutive({2, 2}));
  Exchanged right(4, 1000, 1000);
  right.memory[3][0][999] = std::byte{1};
  CHECK(cluster->Run(right.collective).ok());
  CHECK(right.memory[0][3][999] == std::byte{1});
}

TEST_CASE("Buffers that do not fit end the epoch, on all nodes") {
  GlooBackend backend("127.0.0.1");
  const auto cluster = Connect(&backend, Consecutive({1, 1}));
  Tensors tensors(2, 1000);
  tensors.collective.participants[0].outputs[0].size_bytes = 7;
  SameWords a("a");
  SameWords b("a");
  const auto verdicts = cluster->RunParts(
      {cluster->PartOf(tensors.collective, 0, &a), cluster->PartOf(tensors.collective, 1, &b)});
  CHECK(absl::IsInternal(verdicts[0]));
  CHECK(verdicts[0].message() == "the buffers of rank 0 do not fit allreduce of 1000 int64");
  CHECK(absl::IsUnavailable(verdicts[1]));
  CHECK(std::string(verdicts[1].message()).starts_with("node 0 is lost"));
  CHECK(absl::IsAborted(cluster->Run(Tensors(2, 1).collective)));
}

TEST_CASE("Abort ends the wait for a node that never arrives") {
  GlooBackend backend("127.0.0.1");
  // Whenever it comes: before the others are waited for, or later.
  for (int yields = 0; yields < 2000; yields += 200) {
    const auto cluster = Connect(&backend, Consecutive({1, 1, 1}));
    Tensors tensors(3, 1000);
    SameWords words("a");
    absl::Status verdict;
    {
      Thread waits("waits", [&] {
        verdict = cluster->at(0).Run(cluster->PartOf(tensors.collective, 0, &words));
      });
      for (int i = 0; i < yields; ++i) std::this_thread::yield();
      cluster->at(0).Abort();
    }
    CHECK(absl::IsAborted(verdict));
    CHECK(tensors.Untouched());
    // The others see it without being told: who needs this node at once, and who needs that one.
    std::vector<absl::Status> others(3);
    InParallel(3, [&](size_t node) {
      if (node == 0) return;
      SameWords own("a");
      others[node] = cluster->at(node).Run(cluster->PartOf(tensors.collective, node, &own));
    });
    CHECK(absl::IsUnavailable(others[1]));
    // This one may have had all that it needs.
    CHECK((others[2].ok() || absl::IsUnavailable(others[2])));
    CHECK(absl::IsAborted(cluster->at(0).Run(cluster->PartOf(tensors.collective, 0, &words))));
  }
}

TEST_CASE("Abort ends a collective in the middle, and a node that is lost does") {
  if (!kFailpointsBuiltIn) return;
  GlooBackend backend("127.0.0.1");
  for (const bool abort : {true, false}) {
    const auto cluster = Connect(&backend, Consecutive({1, 2, 1}));
    Tensors tensors(4, 3'000'000);
    std::vector<SameWords> words(3, SameWords("a"));
    std::vector<absl::Status> verdicts(3);
    SetFailpoint("gloo.mid_pipeline", FailpointAction::kPause, 5);
    {
      std::list<Thread> threads;
      for (size_t node = 0; node < 3; ++node) {
        threads.emplace_back("node", [&, node] {
          verdicts[node] =
              cluster->at(node).Run(cluster->PartOf(tensors.collective, node, &words[node]));
        });
      }
      WaitUntilHeld("gloo.mid_pipeline", 1);
      // Whoever is held, and whoever waits for what he has.
      cluster->at(0).Abort();
      if (abort) cluster->at(2).Abort();
      SetFailpoint("gloo.mid_pipeline", FailpointAction::kOff, 0);
    }
    CHECK(absl::IsAborted(verdicts[0]));
    CHECK(absl::IsUnavailable(verdicts[1]));
    CHECK((abort ? absl::IsAborted(verdicts[2]) : absl::IsUnavailable(verdicts[2])));
  }
}

TEST_CASE("Abort just ahead of the agreement is not lost") {
  if (!kFailpointsBuiltIn) return;
  GlooBackend backend("127.0.0.1");
  const auto cluster = Connect(&backend, Consecutive({1, 1}));
  Tensors tensors(2, 1000);
  std::vector<SameWords> words(2, SameWords("a"));
  std::vector<absl::Status> verdicts(2);
  SetFailpoint("gloo.before_agreement", FailpointAction::kPause, 1);
  {
    std::list<Thread> threads;
    for (size_t node = 0; node < 2; ++node) {
      threads.emplace_back("node", [&, node] {
        verdicts[node] =
            cluster->at(node).Run(cluster->PartOf(tensors.collective, node, &words[node]));
      });
    }
    WaitUntilHeld("gloo.before_agreement", 2);
    cluster->at(0).Abort();
    SetFailpoint("gloo.before_agreement", FailpointAction::kOff, 0);
  }
  CHECK(absl::IsAborted(verdicts[0]));
  CHECK(absl::IsUnavailable(verdicts[1]));
  CHECK(tensors.Untouched());
}

TEST_CASE("Abort at any moment of many messages ends all nodes") {
  GlooBackend backend("127.0.0.1", {.step_bytes = size_t{48} << 10});
  for (int round = 0; round < 60; ++round) {
    const auto cluster = Connect(&backend, Consecutive({1, 1, 1}));
    Tensors tensors(3, 500'000);
    std::vector<SameWords> words(3, SameWords("a"));
    std::list<Thread> threads;
    for (size_t node = 0; node < 3; ++node) {
      threads.emplace_back("node", [&, node] {
        // Until it can't any more.
        while (cluster->at(node).Run(cluster->PartOf(tensors.collective, node, &words[node])).ok())
          ;
      });
    }
    for (int i = 0; i < 100 * round; ++i) std::this_thread::yield();
    cluster->at(round % 3).Abort();
    threads.clear();
  }
}

TEST_CASE("A node that is gone is noticed by those who use it") {
  GlooBackend backend("127.0.0.1");
  const auto cluster = Connect(&backend, Consecutive({1, 1, 1}));
  Tensors tensors(3, 1000);
  REQUIRE(cluster->Run(tensors.collective).ok());
  cluster->Lose(2);
  std::vector<SameWords> words(2, SameWords("a"));
  std::vector<absl::Status> verdicts(2);
  InParallel(2, [&](size_t node) {
    verdicts[node] = cluster->at(node).Run(cluster->PartOf(tensors.collective, node, &words[node]));
  });
  for (const absl::Status& verdict : verdicts) {
    CHECK(absl::IsUnavailable(verdict));
    CHECK(std::string(verdict.message()).find("is lost") != std::string::npos);
  }
}

TEST_CASE("What is sent last arrives, although the sender is gone then") {
  GlooBackend backend("127.0.0.1");
  for (int i = 0; i < 20; ++i) {
    const auto cluster = Connect(&backend, Consecutive({1, 1}));
    Tensors tensors(2, 300'000, CollectiveKind::kBroadcast);
    std::vector<absl::Status> verdicts(2);
    std::vector<SameWords> words(2, SameWords("a"));
    InParallel(2, [&](size_t node) {
      verdicts[node] =
          cluster->at(node).Run(cluster->PartOf(tensors.collective, node, &words[node]));
      if (node == 0) cluster->Lose(0);
    });
    CHECK(verdicts[0].ok());
    CHECK(verdicts[1].ok());
    CHECK(tensors.All(1));
  }
}

// One rank of a transfer.
Collective HalfOf(Rank from, Rank to, bool sends, std::vector<int64_t>* memory) {
  const Buffer buffer{.data = reinterpret_cast<std::byte*>(memory->data()),
                      .size_bytes = memory->size() * sizeof(int64_t)};
  Collective half{.kind = CollectiveKind::kSend,
                  .dtype = DataType::kInt64,
                  .root = from,
                  .destination = to,
                  .count = memory->size(),
                  .world_size = 3};
  Participant& part = half.participants.emplace_back();
  part.rank = sends ? from : to;
  (sends ? part.inputs : part.outputs) = {buffer};
  return half;
}

TEST_CASE("A transfer whose sender stops in the middle of a message ends") {
  // One message, more than what sockets hold.
  GlooBackend backend("127.0.0.1", {.transfer_bytes = size_t{1} << 30});
  for (int yields = 0; yields < 1000; yields += 100) {
    const auto cluster = Connect(&backend, Consecutive({1, 1, 1}));
    std::vector<int64_t> sent(8'000'000, 1);
    std::vector<int64_t> received(sent.size());
    absl::Status verdicts[2];
    {
      Thread sender("sender", [&] { verdicts[0] = cluster->at(0).Run(HalfOf(0, 1, true, &sent)); });
      Thread receiver("receiver",
                      [&] { verdicts[1] = cluster->at(1).Run(HalfOf(0, 1, false, &received)); });
      for (int i = 0; i < yields; ++i) std::this_thread::yield();
      cluster->at(0).Abort();
    }
    // Whoever was done before.
    CHECK((verdicts[0].ok() || absl::IsAborted(verdicts[0])));
    CHECK((verdicts[1].ok() || absl::IsUnavailable(verdicts[1])));
  }
}

TEST_CASE("Transfers run beside each other and beside collectives") {
  GlooBackend backend("127.0.0.1");
  const auto cluster = Connect(&backend, Consecutive({1, 1, 1}));
  constexpr int kRounds = 20;
  std::vector<std::string> findings(15);
  // Six directions with a sender and a receiver each, and a collective on each node.
  InParallel(15, [&](size_t i) {
    if (i >= 12) {
      const size_t node = i - 12;
      for (int round = 0; round < kRounds; ++round) {
        Tensors tensors(3, round % 2 == 0 ? 100 : 100'000);
        SameWords words("a");
        const auto part = cluster->PartOf(tensors.collective, node, &words);
        const absl::Status status = cluster->at(node).Run(part);
        const std::vector<int64_t>& result = tensors.memory[node];
        if (!status.ok() || std::count(result.begin(), result.end(), 6) != std::ssize(result)) {
          findings[i] = absl::StrCat("collective ", round, ": ", status.ToString());
        }
      }
      return;
    }
    const Rank from = static_cast<Rank>(i / 2 % 3);
    const Rank to = static_cast<Rank>((from + 1 + i / 6) % 3);
    const bool sends = i % 2 == 0;
    for (int round = 0; round < kRounds; ++round) {
      std::vector<int64_t> memory(size_t{1} << round % 20);
      if (sends) std::iota(memory.begin(), memory.end(), from);
      const absl::Status status =
          cluster->at(sends ? from : to).Run(HalfOf(from, to, sends, &memory));
      if (!status.ok() || memory.back() != static_cast<int64_t>(memory.size() - 1 + from)) {
        findings[i] = absl::StrCat(round, " from ", from, " to ", to, ": ", status.ToString());
      }
    }
  });
  for (const std::string& finding : findings) CHECK(finding == "");
}

}  // namespace
}  // namespace tutti
