// The client against a scripted daemon with real sockets: sessions, lanes that break, memory,
// forks.
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <functional>
#include <vector>

#include "client/cpp/testing/fake_daemon.h"
#include "client/cpp/tutti.h"

namespace tutti {
namespace {

using Mind = FakeDaemon::Mind;

std::unique_ptr<Client> MustConnectOn(const std::string& lane, const FakeDaemon& daemon) {
  auto client = Client::Connect(
      {.socket_dir = daemon.dir(), .name_space = "job", .lane = lane, .label = "test"});
  INFO(client.status().ToString());
  REQUIRE(client.ok());
  return *std::move(client);
}

std::unique_ptr<Client> MustConnect(const FakeDaemon& daemon) {
  return MustConnectOn("auto", daemon);
}

Group MustJoin(Client* client) {
  auto group = client->Join({.group = "g", .rank = 0, .world_size = 2});
  REQUIRE(group.ok());
  return *group;
}

Tensor MustMake(Client* client, size_t count) {
  auto tensor = client->NewTensor(DataType::kFloat32, count);
  REQUIRE(tensor.ok());
  return *tensor;
}

// Decides by number: `special` for one work, done for all others; what is lost is lost once.
FakeDaemon::Script Once(uint64_t number, Mind special) {
  auto used = std::make_shared<bool>(false);
  return {.mind = [=](const v1::Work& work) {
    if (work.number() != number || *used) return Mind::kDone;
    *used = true;
    return special;
  }};
}

FakeDaemon::Script Always(Mind mind) {
  return {.mind = [mind](const v1::Work&) { return mind; }};
}

TEST_CASE("a session says who it is, and ends in good order") {
  FakeDaemon daemon({});
  auto client = MustConnect(daemon);
  CHECK(client->session_id() == 7);
  CHECK(daemon.hello().protocol_version() == 1);
  CHECK(daemon.hello().namespace_() == "job");
  CHECK(daemon.hello().label() == "test");
  client.reset();
  daemon.AwaitSessionEnd();
  CHECK(daemon.said_goodbye());
}

TEST_CASE("who is refused is told why") {
  FakeDaemon no_session({.refusal = Failure{.cause = Cause::kLimit, .message = "4096 sessions"}});
  const auto full = Client::Connect({.socket_dir = no_session.dir()});
  CHECK(full.status().code() == absl::StatusCode::kResourceExhausted);
  CHECK(full.status().message() == "4096 sessions");

  FakeDaemon no_lane({.stream_refusal = Failure{.cause = Cause::kDraining, .message = "draining"}});
  const auto draining = Client::Connect({.socket_dir = no_lane.dir()});
  CHECK(draining.status().code() == absl::StatusCode::kUnavailable);
  CHECK(draining.status().message() == "draining");

  CHECK(Client::Connect({.socket_dir = "/nonexistent"}).status().code() ==
        absl::StatusCode::kUnavailable);
}

TEST_CASE("a client without a ring says why, unless it was to be the ring") {
  FakeDaemon daemon({.arenas_max = 1});
  MustConnect(daemon);
  CHECK(daemon.no_ring() == "no rings here");
  CHECK(daemon.arenas() == 0);

  MustConnectOn("grpc", daemon);
  CHECK(daemon.no_ring() == "TUTTI_LANE=grpc");

  const auto ring = Client::Connect({.socket_dir = daemon.dir(), .lane = "ring"});
  CHECK(ring.status().code() == absl::StatusCode::kUnimplemented);
  CHECK(ring.status().message() ==
        "the ring can't be had: no rings here (TUTTI_LANE=auto falls back to gRPC)");
  const auto other = Client::Connect({.socket_dir = daemon.dir(), .lane = "rung"});
  CHECK(other.status().message() == "there is no lane 'rung': TUTTI_LANE is auto, ring or grpc");
}

TEST_CASE("a join that fails brings the whole failure") {
  FakeDaemon daemon({});
  auto client = MustConnect(daemon);
  const auto group = client->Join({.group = "never", .rank = 0, .world_size = 2});
  REQUIRE_FALSE(group.ok());
  CHECK(group.failure().cause == Cause::kDeadline);
  CHECK(group.failure().missing == std::vector<Rank>{1});
}

TEST_CASE("an operation names the memory that the daemon sees") {
  FakeDaemon daemon({});
  auto client = MustConnect(daemon);
  const Group group = MustJoin(client.get());
  CHECK(group.epoch() == 3);
  const Tensor first = MustMake(client.get(), 10);
  const Tensor tensor = MustMake(client.get(), 1000);
  tensor.data<float>()[999] = 42;
  REQUIRE_FALSE(group.AllReduce(tensor, ReduceOp::kMax, {.timeout = absl::Microseconds(1500)})
                    .Wait()
                    .has_value());
  const v1::Work work = daemon.received().at(0);
  CHECK(work.kind() == v1::COLLECTIVE_KIND_ALLREDUCE);
  CHECK(work.dtype() == v1::DATA_TYPE_FLOAT32);
  CHECK(work.op() == v1::REDUCE_OP_MAX);
  CHECK(work.timeout_ms() == 2);
  REQUIRE(work.inputs_size() == 1);
  CHECK(work.inputs(0).SerializeAsString() == work.outputs(0).SerializeAsString());
  CHECK(work.inputs(0).length() == 4000);
  CHECK(work.inputs(0).offset() > 0);
  const std::byte* const seen = daemon.arena(work.inputs(0).arena()) + work.inputs(0).offset();
  CHECK(reinterpret_cast<const float*>(seen)[999] == 42);
}

TEST_CASE("the root of a broadcast gives, the others take") {
  FakeDaemon daemon({});
  auto client = MustConnect(daemon);
  const Group group = MustJoin(client.get());
  const Tensor tensor = MustMake(client.get(), 4);
  CHECK_FALSE(group.Broadcast(tensor, 0).Wait().has_value());
  CHECK_FALSE(group.Broadcast(tensor, 1).Wait().has_value());
  CHECK_FALSE(group.Barrier().Wait().has_value());
  const auto works = daemon.received();
  CHECK((works[0].inputs_size() == 1 && works[0].outputs_size() == 0));
  CHECK((works[1].inputs_size() == 0 && works[1].outputs_size() == 1 && works[1].root() == 1));
  CHECK(works[2].dtype() == v1::DATA_TYPE_UNSPECIFIED);
}

TEST_CASE("plain memory is written on success only") {
  std::vector<float> values = {1, 2, 3};
  // The "reduction": the fake daemon leaves the arena as it is, so change it through its eyes.
  for (const Mind mind : {Mind::kHold, Mind::kFail}) {
    FakeDaemon daemon(Always(mind));
    auto client = MustConnect(daemon);
    const Group group = MustJoin(client.get());
    const Work work = group.AllReduce(absl::MakeSpan(values));
    daemon.AwaitReceived(1);
    const v1::Span span = daemon.received()[0].inputs(0);
    CHECK(span.length() == 12);
    auto* const seen = reinterpret_cast<float*>(daemon.arena(span.arena()) + span.offset());
    CHECK(seen[2] == 3);
    seen[2] = 30;
    daemon.Release();
    CHECK(work.Wait().has_value() == (mind == Mind::kFail));
    CHECK(values[2] == (mind == Mind::kFail ? 3 : 30));
    values[2] = 3;
  }
}

TEST_CASE("a tensor that is none of this session's fails at all ranks, and harms nobody") {
  FakeDaemon daemon({});
  FakeDaemon other_daemon({});
  auto client = MustConnect(daemon);
  auto other = MustConnect(other_daemon);
  const Group group = MustJoin(client.get());
  for (const Tensor& tensor : {MustMake(other.get(), 4), Tensor()}) {
    const auto failure = group.AllReduce(tensor).Wait();
    REQUIRE(failure.has_value());
    CHECK(failure->cause == Cause::kInvalid);
  }
  // Sent without buffers, so that the daemon can refuse it everywhere.
  REQUIRE(daemon.received().size() == 2);
  CHECK(daemon.received()[0].inputs_size() == 0);
}

TEST_CASE("a work that a breaking stream has lost is sent again") {
  FakeDaemon daemon(Once(2, Mind::kLoseAndBreak));
  auto client = MustConnect(daemon);
  const Group group = MustJoin(client.get());
  std::vector<Work> works;
  for (int i = 0; i < 4; ++i) works.push_back(group.Barrier());
  for (const Work& work : works) CHECK_FALSE(work.Wait().has_value());
  const auto received = daemon.received();
  REQUIRE(received.size() == 4);
  for (uint64_t i = 0; i < 4; ++i) CHECK(received[i].number() == i + 1);
  CHECK(daemon.streams() == 2);
}

TEST_CASE("a completion that a breaking stream has lost is told again, and no work done twice") {
  FakeDaemon daemon(Once(2, Mind::kFinishAndBreak));
  auto client = MustConnect(daemon);
  const Group group = MustJoin(client.get());
  for (int i = 0; i < 4; ++i) CHECK_FALSE(group.Barrier().Wait().has_value());
  CHECK(daemon.received().size() == 4);
  CHECK(daemon.streams() == 2);
}

TEST_CASE("completions that are told twice change nothing") {
  FakeDaemon::Script script = Once(3, Mind::kLoseAndBreak);
  script.repeat_all = true;
  FakeDaemon daemon(script);
  auto client = MustConnect(daemon);
  const Group group = MustJoin(client.get());
  for (int i = 0; i < 5; ++i) CHECK_FALSE(group.Barrier().Wait().has_value());
}

TEST_CASE("more works than may be in flight wait for room, and completions are acknowledged") {
  FakeDaemon daemon({.in_flight_max = 4});
  auto client = MustConnect(daemon);
  const Group group = MustJoin(client.get());
  std::vector<Work> works;
  for (int i = 0; i < 100; ++i) works.push_back(group.Barrier());
  for (const Work& work : works) CHECK_FALSE(work.Wait().has_value());
  CHECK(daemon.acknowledged() >= 92);  // at most twice four are kept
}

TEST_CASE("failures arrive whole") {
  FakeDaemon daemon(Always(Mind::kFail));
  auto client = MustConnect(daemon);
  const auto failure = MustJoin(client.get()).Barrier().Wait();
  REQUIRE(failure.has_value());
  CHECK(*failure == Failure{.cause = Cause::kRankDied,
                            .message = "rank 1 died",
                            .group = "g",
                            .epoch = 3,
                            .culprits = {1},
                            .sequence = 1});
}

TEST_CASE("when the daemon hangs up, all that waits fails, and all that comes") {
  FakeDaemon daemon(Always(Mind::kHold));
  auto client = MustConnect(daemon);
  const Group group = MustJoin(client.get());
  const Work first = group.Barrier();
  const Work second = group.Barrier();
  daemon.AwaitReceived(2);
  CHECK_FALSE(first.done());
  daemon.HangUp();
  for (const Work& work : {first, second, group.Barrier()}) {
    const auto failure = work.Wait();
    REQUIRE(failure.has_value());
    CHECK(failure->cause == Cause::kNodeLost);
    CHECK(failure->group == "g");
  }
  CHECK(client->NewTensor(DataType::kFloat32, 4).status().code() == absl::StatusCode::kUnavailable);
  CHECK(client->Join({.group = "h"}).failure().cause == Cause::kNodeLost);
  CHECK(group.Leave()->cause == Cause::kNodeLost);
}

TEST_CASE("what is in flight when the client is closed fails; groups and tensors may live on") {
  FakeDaemon daemon(Always(Mind::kHold));
  auto client = MustConnect(daemon);
  const Group group = MustJoin(client.get());
  const Tensor tensor = MustMake(client.get(), 100);
  const Work work = group.AllReduce(tensor);
  daemon.AwaitReceived(1);
  client.reset();
  CHECK(work.Wait()->cause == Cause::kSessionClosed);
  CHECK(group.Barrier().Wait()->cause == Cause::kSessionClosed);
  tensor.data<float>()[99] = 1;
  CHECK(daemon.said_goodbye());
}

TEST_CASE("a group is left after the works that were submitted before") {
  FakeDaemon daemon(Always(Mind::kHold));
  auto client = MustConnect(daemon);
  const Group group = MustJoin(client.get());
  const Work first = group.Barrier();
  const Work second = group.Barrier();
  CHECK_FALSE(group.Leave().has_value());
  CHECK(daemon.last_leave().membership() == 1);
  CHECK(daemon.last_leave().after_work() == 2);
}

TEST_CASE("tensors are refused at the daemon's limit, and idle memory goes back first") {
  FakeDaemon daemon({.arenas_max = 1});
  auto client = MustConnect(daemon);
  MustMake(client.get(), 1 << 20);  // dropped
  const Tensor large = MustMake(client.get(), 2 << 20);
  CHECK(daemon.arenas() == 1);
  CHECK(client->NewTensor(DataType::kFloat32, 2 << 20).status().code() ==
        absl::StatusCode::kResourceExhausted);
  CHECK(client->NewTensor(DataType::kNone, 4).status().code() ==
        absl::StatusCode::kInvalidArgument);
  CHECK(client->NewTensor(DataType::kFloat64, SIZE_MAX / 8).status().code() ==
        absl::StatusCode::kInvalidArgument);
}

// What the child of `fork` found, as its exit code: 0 is good.
int InChild(const std::function<int()>& check) {
  const pid_t child = fork();
  if (child == 0) _exit(check());
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_CASE("in a forked child every call fails, naming the fork, and the parent works on") {
  FakeDaemon daemon({});
  auto client = MustConnect(daemon);
  const Group group = MustJoin(client.get());
  const Tensor tensor = MustMake(client.get(), 4);
  const Work before = group.Barrier();
  const int failed = InChild([&] {
    const auto says_fork = [](const std::string& message) {
      return message.find("forked") != std::string::npos;
    };
    if (!says_fork(before.Wait()->message)) return 1;
    if (!says_fork(group.AllReduce(tensor).Wait()->message)) return 2;
    if (!says_fork(group.Leave()->message)) return 3;
    if (!says_fork(client->Join({.group = "h"}).failure().message)) return 4;
    const absl::Status no_tensor = client->NewTensor(DataType::kFloat32, 4).status();
    if (!says_fork(std::string(no_tensor.message()))) return 5;
    client.reset();
    return 0;
  });
  CHECK(failed == 0);
  CHECK_FALSE(before.Wait().has_value());
  CHECK_FALSE(group.AllReduce(tensor).Wait().has_value());
}

// How many sockets of the session's kind this process has: the client's, and the fake daemon's.
int CountSessionSockets() {
  int count = 0;
  for (int fd = 0; fd < 1024; ++fd) {
    int type = 0;
    socklen_t size = sizeof(type);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET) ++count;
  }
  return count;
}

// Else the daemon would not notice the parent's death while the child lives.
TEST_CASE("a forked child has no copy of the session socket") {
  FakeDaemon daemon({});
  FakeDaemon second_daemon({});
  auto client = MustConnect(daemon);
  const auto second = MustConnect(second_daemon);
  const int before = CountSessionSockets();
  CHECK(InChild([] { return CountSessionSockets(); }) == before - 2);
  client.reset();
  CHECK(InChild([] { return CountSessionSockets(); }) == CountSessionSockets() - 1);
}

}  // namespace
}  // namespace tutti
