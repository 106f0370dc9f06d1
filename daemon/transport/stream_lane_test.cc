// The gRPC lane end to end: a real server and stream, a real core on a real loop.
#include "daemon/transport/stream_lane.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "daemon/transport/testing/served_core.h"
#include "proto/grpc_status.h"

namespace tutti {
namespace {

using Stub = v1::ClientService::Stub;

void AddToken(grpc::ClientContext* context, const std::string& token) {
  context->AddMetadata(kTokenKey, token);
}

// One stream of a client.
class Stream {
 public:
  Stream(Stub* stub, const std::string& token) {
    AddToken(&context, token);
    stream_ = stub->Attach(&context);
  }
  // Finished streams stay finished.
  ~Stream() {
    context.TryCancel();
    if (!finished_) (void)Finish();
  }

  bool Open(uint64_t acknowledged = 0) {
    v1::AttachRequest request;
    request.mutable_open()->set_acknowledged(acknowledged);
    return stream_->Write(request);
  }
  // Opens, and returns the last work number that the daemon has received.
  uint64_t Opened(uint64_t acknowledged = 0) {
    REQUIRE(Open(acknowledged));
    v1::AttachResponse response;
    REQUIRE(stream_->Read(&response));
    REQUIRE(response.has_opened());
    return response.opened().last_received();
  }
  bool Barrier(uint64_t number, MembershipId membership) {
    v1::AttachRequest request;
    v1::Work* const work = request.mutable_work();
    work->set_number(number);
    work->set_membership(membership);
    work->set_kind(v1::COLLECTIVE_KIND_BARRIER);
    return stream_->Write(request);
  }
  bool Acknowledge(uint64_t through) {
    v1::AttachRequest request;
    request.mutable_acknowledge()->set_through(through);
    return stream_->Write(request);
  }
  bool Write(const v1::AttachRequest& request) { return stream_->Write(request); }
  bool WritesDone() { return stream_->WritesDone(); }

  // At least one completion; none if the stream has ended.
  std::vector<v1::Completion> Read() {
    v1::AttachResponse response;
    if (!stream_->Read(&response)) return {};
    REQUIRE(response.has_completions());
    ++messages;
    return {response.completions().completions().begin(),
            response.completions().completions().end()};
  }
  std::vector<v1::Completion> ReadAll(size_t count) {
    std::vector<v1::Completion> all;
    while (all.size() < count) {
      const std::vector<v1::Completion> some = Read();
      REQUIRE_FALSE(some.empty());
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  }

  grpc::Status Finish() {
    finished_ = true;
    return stream_->Finish();
  }
  // What the stream ended with, after everything that was sent.
  Failure Ended() {
    v1::AttachResponse response;
    while (stream_->Read(&response)) {
    }
    status = Finish();
    return FailureOf(status, context);
  }

  grpc::ClientContext context;
  grpc::Status status;
  int messages = 0;

 private:
  std::unique_ptr<grpc::ClientReaderWriter<v1::AttachRequest, v1::AttachResponse>> stream_;
  bool finished_ = false;
};

// A client that is alone in its group: every barrier completes at once.
struct Client {
  explicit Client(ServedCore* served_, const std::string& group = "solo")
      : served(served_), seat(served->OpenSession()), stub(served->Connect()) {
    grpc::ClientContext context;
    AddToken(&context, seat.token);
    v1::JoinGroupRequest request;
    request.set_group(group);
    request.set_world_size(1);
    v1::JoinGroupResponse response;
    REQUIRE(stub->JoinGroup(&context, request, &response).ok());
    membership = response.membership();
  }

  ServedCore* const served;
  const ServedCore::Seat seat;
  const std::unique_ptr<Stub> stub;
  MembershipId membership = 0;
};

TEST_CASE("works go in, completions come out, numbered and in order") {
  ServedCore served;
  Client client(&served);
  Stream stream(client.stub.get(), client.seat.token);
  CHECK(stream.Opened() == 0);
  for (uint64_t number = 1; number <= 10; ++number) {
    REQUIRE(stream.Barrier(number, client.membership));
    const std::vector<v1::Completion> done = stream.ReadAll(1);
    CHECK(done[0].serial() == number);
    CHECK(done[0].number() == number);
    CHECK_FALSE(done[0].has_failure());
  }
  CHECK(served.OnLoop([&] { return served.ended.size(); }) == 0);
}

TEST_CASE("a work that fails is a completion; the stream goes on") {
  ServedCore served;
  Client client(&served);
  Stream stream(client.stub.get(), client.seat.token);
  stream.Opened();
  REQUIRE(stream.Barrier(1, 4711));
  const std::vector<v1::Completion> failed = stream.ReadAll(1);
  CHECK(failed[0].failure().cause() == v1::CAUSE_NOT_FOUND);
  v1::AttachRequest unknown;
  unknown.mutable_work()->set_number(2);
  unknown.mutable_work()->set_membership(client.membership);
  unknown.mutable_work()->set_kind(static_cast<v1::CollectiveKind>(99));
  REQUIRE(stream.Write(unknown));
  CHECK(stream.ReadAll(1)[0].failure().cause() == v1::CAUSE_INVALID);
  REQUIRE(stream.Barrier(3, client.membership));
  CHECK_FALSE(stream.ReadAll(1)[0].has_failure());
}

TEST_CASE("who has no session is not let in") {
  ServedCore served;
  Client client(&served);
  std::string token = client.seat.token;
  SECTION("a wrong token") { token[31] = 'x'; }
  SECTION("an empty token") { token.clear(); }
  SECTION("the token of a session that has ended") {
    served.OnLoop([&] { served.tokens.Revoke(client.seat.session); });
  }
  Stream stream(client.stub.get(), token);
  stream.Open();
  CHECK(stream.Ended().cause == Cause::kNotFound);
  CHECK(stream.status.error_code() == grpc::StatusCode::UNAUTHENTICATED);
}

TEST_CASE("what breaks the stream's protocol ends the stream with a reason") {
  ServedCore served;
  Client client(&served);
  Stream stream(client.stub.get(), client.seat.token);
  SECTION("a work before Open") { stream.Barrier(1, client.membership); }
  SECTION("a second Open") {
    stream.Opened();
    stream.Open();
  }
  SECTION("an empty request") {
    stream.Opened();
    stream.Write({});
  }
  const Failure failure = stream.Ended();
  CHECK(failure.cause == Cause::kProtocol);
  CHECK(stream.status.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  // The session lives; a new stream goes on.
  Stream again(client.stub.get(), client.seat.token);
  CHECK(again.Opened() == 0);
}

TEST_CASE("a gap in the numbers ends the session") {
  ServedCore served;
  Client client(&served);
  Stream stream(client.stub.get(), client.seat.token);
  stream.Opened();
  REQUIRE(stream.Barrier(2, client.membership));
  CHECK(stream.Ended().cause == Cause::kProtocol);
  const auto ended = served.OnLoop([&] { return served.ended; });
  REQUIRE(ended.size() == 1);
  CHECK(ended[0].first == client.seat.session);
  CHECK(ended[0].second.cause == Cause::kProtocol);
}

TEST_CASE("a message that is too large ends the stream, not the daemon") {
  ServedCore served;
  Client client(&served);
  Stream stream(client.stub.get(), client.seat.token);
  stream.Opened();
  v1::AttachRequest large;
  for (int i = 0; i < 100'000; ++i) large.mutable_work()->add_inputs()->set_offset(i);
  stream.Write(large);
  stream.Ended();
  CHECK(stream.status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
  Stream again(client.stub.get(), client.seat.token);
  CHECK(again.Opened() == 0);
}

TEST_CASE("a second stream takes over: the first ends, completions are told again") {
  ServedCore served;
  Client client(&served);
  Stream first(client.stub.get(), client.seat.token);
  first.Opened();
  for (uint64_t number = 1; number <= 5; ++number) first.Barrier(number, client.membership);
  CHECK(first.ReadAll(5).size() == 5);
  REQUIRE(first.Acknowledge(2));

  Stream second(client.stub.get(), client.seat.token);
  CHECK(second.Opened(3) == 5);
  CHECK(first.Ended().cause == Cause::kWithdrawn);
  const std::vector<v1::Completion> again = second.ReadAll(2);
  CHECK(again[0].serial() == 4);
  CHECK(again[1].serial() == 5);
  REQUIRE(second.Barrier(6, client.membership));
  CHECK(second.ReadAll(1)[0].serial() == 6);
}

TEST_CASE("a stream that breaks fails nothing: works complete, and the next stream tells") {
  ServedCore served;
  Client client(&served);
  {
    Stream first(client.stub.get(), client.seat.token);
    first.Opened();
    REQUIRE(first.Barrier(1, client.membership));
    CHECK(first.ReadAll(1).size() == 1);
    SECTION("by cancelling") { first.context.TryCancel(); }
    SECTION("by ending it in good order") {
      REQUIRE(first.WritesDone());
      first.Ended();
      CHECK(first.status.ok());
    }
  }
  Stream second(client.stub.get(), client.seat.token);
  CHECK(second.Opened() == 1);
  CHECK(second.ReadAll(1)[0].serial() == 1);
}

TEST_CASE("completions that pile up share messages") {
  ServedCore served;
  Client client(&served);
  constexpr uint64_t kWorks = 16;
  {
    Stream first(client.stub.get(), client.seat.token);
    first.Opened();
    for (uint64_t number = 1; number <= kWorks; ++number) {
      REQUIRE(first.Barrier(number, client.membership));
    }
    REQUIRE(first.ReadAll(kWorks).size() == kWorks);
  }
  // Nothing was acknowledged: all of them wait before the second stream may write.
  Stream second(client.stub.get(), client.seat.token);
  second.Opened();
  const std::vector<v1::Completion> done = second.ReadAll(kWorks);
  for (uint64_t i = 0; i < kWorks; ++i) CHECK(done[i].serial() == i + 1);
  CHECK(second.messages == 1);
}

TEST_CASE("many more works than the inbox holds go through, in order") {
  Limits limits = ServedCore::SmallLimits();
  limits.works_in_flight_max = 5000;
  ServedCore served(limits);
  Client client(&served);
  Stream stream(client.stub.get(), client.seat.token);
  stream.Opened();
  constexpr uint64_t kWorks = 3000;
  Event go;
  served.loop->Post([&] { go.Wait(); });
  {
    const Thread writer("writer", [&] {
      for (uint64_t number = 1; number <= kWorks; ++number) {
        // Not Catch's macros: they belong to the test's thread.
        if (number == 200) go.Set();
        if (!stream.Barrier(number, client.membership)) return;
      }
    });
    const std::vector<v1::Completion> done = stream.ReadAll(kWorks);
    for (uint64_t i = 0; i < kWorks; ++i) REQUIRE(done[i].number() == i + 1);
  }
}

TEST_CASE("the end of the session ends the stream, after what was completed") {
  ServedCore served;
  Client client(&served);
  Stream stream(client.stub.get(), client.seat.token);
  stream.Opened();
  REQUIRE(stream.Barrier(1, client.membership));
  CHECK(stream.ReadAll(1).size() == 1);
  served.OnLoop([&] { served.core->CloseSession(client.seat.session, SessionEnd::kGoodbye); });
  CHECK(stream.Ended().cause == Cause::kSessionClosed);
  CHECK(stream.status.error_code() == grpc::StatusCode::ABORTED);
}

TEST_CASE("a client that does not read cannot keep its stream for ever") {
  Limits limits = ServedCore::SmallLimits();
  limits.works_in_flight_max = 20000;
  ServedCore served(limits);
  Client client(&served);
  // A window that stays small: what does not fit stays with the daemon.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 16 << 10);
  const std::unique_ptr<Stub> stub = served.Connect(arguments);
  Stream stream(stub.get(), client.seat.token);
  stream.Opened();
  // Failures of some 100 bytes, many times the window and gRPC's own buffers.
  constexpr uint64_t kWorks = 10000;
  for (uint64_t number = 1; number <= kWorks; ++number) {
    REQUIRE(stream.Barrier(number, 4711));
  }
  while (served.core->snapshot()->totals.works_failed < kWorks) {
  }
  // The lane is told to end, and its write cannot, for the client still does not read: the call is
  // cancelled, so that the server need not wait for it.
  served.OnLoop([&] { served.core->CloseSession(client.seat.session, SessionEnd::kHungUp); });
  const MonotonicTime start = served.clock.Now();
  served.server->Shutdown(absl::Seconds(40));
  CHECK(served.clock.Now() - start < absl::Seconds(20));
  (void)stream.Ended();
  CHECK_FALSE(stream.status.ok());
}

TEST_CASE("streams that are cancelled at any moment leave nothing behind") {
  Limits limits = ServedCore::SmallLimits();
  limits.works_in_flight_max = 1000;
  ServedCore served(limits);
  constexpr int kClients = 3;
  constexpr int kRounds = 60;
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<Client>(&served, "solo" + std::to_string(i)));
  }
  std::atomic<int> failures{0};
  {
    std::vector<std::unique_ptr<Thread>> threads;
    for (int i = 0; i < kClients; ++i) {
      threads.push_back(std::make_unique<Thread>("client", [&, i] {
        std::minstd_rand random(static_cast<unsigned>(i + 1));
        Client& client = *clients[static_cast<size_t>(i)];
        uint64_t seen = 0;
        for (int round = 0; round < kRounds; ++round) {
          grpc::ClientContext context;
          AddToken(&context, client.seat.token);
          auto stream = client.stub->Attach(&context);
          v1::AttachRequest request;
          request.mutable_open()->set_acknowledged(seen);
          stream->Write(request);
          v1::AttachResponse response;
          if (random() % 4 == 0) context.TryCancel();
          const bool opened = stream->Read(&response);
          uint64_t number = response.opened().last_received();
          const int works = opened ? static_cast<int>(random() % 20) : 0;
          for (int w = 0; w < works; ++w) {
            request.mutable_work()->set_number(++number);
            request.mutable_work()->set_membership(client.membership);
            request.mutable_work()->set_kind(v1::COLLECTIVE_KIND_BARRIER);
            stream->Write(request);
          }
          // Each work completes once, so this many will come.
          const uint64_t target = opened ? seen + random() % (number - seen + 1) : seen;
          while (seen < target && stream->Read(&response)) {
            for (const v1::Completion& done : response.completions().completions()) {
              if (done.serial() != seen + 1 || done.has_failure()) ++failures;
              seen = done.serial();
            }
          }
          if (random() % 2 == 0) stream->WritesDone();
          context.TryCancel();
          (void)stream->Finish();
        }
      }));
    }
  }
  CHECK(failures == 0);
  CHECK(served.OnLoop([&] { return served.ended.size(); }) == 0);
}

}  // namespace
}  // namespace tutti
