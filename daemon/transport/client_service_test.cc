// Joining and leaving over a real server, with a real core on a real loop.
#include "daemon/transport/client_service.h"

#include <catch2/catch.hpp>
#include <memory>
#include <optional>
#include <string>

#include "daemon/transport/testing/served_core.h"
#include "proto/grpc_status.h"

namespace tutti {
namespace {

v1::JoinGroupRequest Seat(const std::string& group, Rank rank, uint32_t world_size) {
  v1::JoinGroupRequest request;
  request.set_group(group);
  request.set_rank(rank);
  request.set_world_size(world_size);
  return request;
}

// A join that waits in a thread of its own.
class Join {
 public:
  Join(ServedCore* served, const std::string& token, v1::JoinGroupRequest request)
      : stub_(served->Connect()) {
    context.AddMetadata(kTokenKey, token);
    thread_.emplace("join", [this, request = std::move(request)] {
      status_ = stub_->JoinGroup(&context, request, &response);
    });
  }
  grpc::Status Wait() {
    thread_.reset();
    return status_;
  }
  Failure Failed() {
    const grpc::Status status = Wait();
    CHECK_FALSE(status.ok());
    return FailureOf(status, context);
  }

  grpc::ClientContext context;
  v1::JoinGroupResponse response;

 private:
  const std::unique_ptr<v1::ClientService::Stub> stub_;
  grpc::Status status_;
  std::optional<Thread> thread_;
};

// Waits until a snapshot says that `wanted` ranks hold seats of the group; 0: it is not there.
void WaitForJoined(ServedCore* served, const std::string& group, uint32_t wanted) {
  while (true) {
    uint32_t joined = 0;
    // Held by name: C++20 ends a temporary of the range's expression before the loop begins.
    const auto snapshot = served->core->snapshot();
    for (const auto& shown : snapshot->groups) {
      if (shown->name == group) joined = shown->joined;
    }
    if (joined == wanted) return;
  }
}

TEST_CASE("a group forms when all have joined; each is told its membership and the epoch") {
  ServedCore served;
  const auto a = served.OpenSession();
  const auto b = served.OpenSession();
  v1::JoinGroupRequest first = Seat("dp", 0, 2);
  first.set_work_timeout_ms(1234);
  v1::JoinGroupRequest second = Seat("dp", 1, 2);
  second.set_work_timeout_ms(1234);
  Join join_a(&served, a.token, first);
  Join join_b(&served, b.token, second);
  REQUIRE(join_a.Wait().ok());
  REQUIRE(join_b.Wait().ok());
  CHECK(join_a.response.membership() != join_b.response.membership());
  CHECK(join_a.response.epoch() == 1);
  CHECK(join_a.response.epoch_id().size() == 16);
  CHECK(join_a.response.epoch_id() == join_b.response.epoch_id());
  CHECK(join_a.response.work_timeout_ms() == 1234);
}

TEST_CASE("a join that fails carries the whole failure") {
  ServedCore served;
  const auto a = served.OpenSession();
  Join join(&served, a.token, Seat("dp", 7, 2));
  const Failure failure = join.Failed();
  CHECK(failure.cause == Cause::kInvalid);
  CHECK_FALSE(failure.message.empty());
}

TEST_CASE("calls without the token of a living session are not let in") {
  ServedCore served;
  const auto a = served.OpenSession();
  SECTION("join") {
    Join join(&served, std::string(32, 'x'), Seat("dp", 0, 2));
    CHECK(join.Wait().error_code() == grpc::StatusCode::UNAUTHENTICATED);
  }
  SECTION("leave") {
    grpc::ClientContext context;
    v1::LeaveGroupResponse response;
    CHECK(served.Connect()->LeaveGroup(&context, {}, &response).error_code() ==
          grpc::StatusCode::UNAUTHENTICATED);
  }
}

TEST_CASE("cancelling a join gives the seat back") {
  ServedCore served;
  const auto a = served.OpenSession();
  const auto b = served.OpenSession();
  Join cancelled(&served, a.token, Seat("dp", 0, 2));
  WaitForJoined(&served, "dp", 1);
  cancelled.context.TryCancel();
  CHECK(cancelled.Wait().error_code() == grpc::StatusCode::CANCELLED);
  // The daemon hears of it a moment later; then the seat is free for another session.
  WaitForJoined(&served, "dp", 0);
  Join other(&served, a.token, Seat("dp", 1, 2));
  Join join(&served, b.token, Seat("dp", 0, 2));
  CHECK(join.Wait().ok());
  CHECK(other.Wait().ok());
}

TEST_CASE("joins cancelled at any moment leave nothing behind when their sessions end") {
  ServedCore served;
  for (int round = 0; round < 40; ++round) {
    const auto a = served.OpenSession();
    const auto b = served.OpenSession();
    {
      Join join_a(&served, a.token, Seat("dp", 0, 2));
      Join join_b(&served, b.token, Seat("dp", 1, 2));
      join_a.context.TryCancel();
      if (round % 2 == 0) join_b.context.TryCancel();
      join_a.Wait();
      join_b.context.TryCancel();
      join_b.Wait();
    }
    for (const auto& seat : {a, b}) {
      served.OnLoop([&] {
        served.tokens.Revoke(seat.session);
        served.core->CloseSession(seat.session, SessionEnd::kHungUp);
      });
    }
  }
  const auto a = served.OpenSession();
  const auto b = served.OpenSession();
  Join join_a(&served, a.token, Seat("dp", 0, 2));
  Join join_b(&served, b.token, Seat("dp", 1, 2));
  CHECK(join_a.Wait().ok());
  CHECK(join_b.Wait().ok());
}

TEST_CASE("leaving is answered at once, twice as well") {
  ServedCore served;
  const auto a = served.OpenSession();
  Join join(&served, a.token, Seat("solo", 0, 1));
  REQUIRE(join.Wait().ok());
  for (int i = 0; i < 2; ++i) {
    grpc::ClientContext context;
    context.AddMetadata(kTokenKey, a.token);
    v1::LeaveGroupRequest leave;
    leave.set_membership(join.response.membership());
    v1::LeaveGroupResponse left;
    CHECK(served.Connect()->LeaveGroup(&context, leave, &left).ok());
  }
}

TEST_CASE("a join whose answer nobody has waited for is called off by its number") {
  ServedCore served;
  const auto a = served.OpenSession();
  for (uint64_t number = 1; number < 4; ++number) {
    v1::JoinGroupRequest seat = Seat("solo", 0, 1);
    seat.set_join_id(number);
    Join join(&served, a.token, seat);
    REQUIRE(join.Wait().ok());
    grpc::ClientContext context;
    context.AddMetadata(kTokenKey, a.token);
    v1::LeaveGroupRequest leave;
    leave.set_join_id(number);
    v1::LeaveGroupResponse left;
    CHECK(served.Connect()->LeaveGroup(&context, leave, &left).ok());
  }
}

TEST_CASE("a leave that waits for a work that never comes can be cancelled") {
  ServedCore served;
  const auto a = served.OpenSession();
  Join join(&served, a.token, Seat("solo", 0, 1));
  REQUIRE(join.Wait().ok());
  grpc::ClientContext context;
  context.AddMetadata(kTokenKey, a.token);
  v1::LeaveGroupRequest leave;
  leave.set_membership(join.response.membership());
  leave.set_after_work(1000);
  v1::LeaveGroupResponse left;
  const auto stub = served.Connect();
  std::optional<Thread> canceller;
  canceller.emplace("cancel", [&] { context.TryCancel(); });
  CHECK(stub->LeaveGroup(&context, leave, &left).error_code() == grpc::StatusCode::CANCELLED);
  canceller.reset();
}

}  // namespace
}  // namespace tutti
