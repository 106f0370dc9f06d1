#include "proto/grpc_status.h"

#include <catch2/catch.hpp>
#include <memory>
#include <string>

#include "proto/convert.h"
#include "tutti/v1/client.grpc.pb.h"

namespace tutti {
namespace {

// Fails every call, as the daemon's services do.
class FailingService final : public v1::ClientService::Service {
 public:
  grpc::Status LeaveGroup(grpc::ServerContext* context, const v1::LeaveGroupRequest*,
                          v1::LeaveGroupResponse*) override {
    return trailer ? FinishWith(failure, context) : ToGrpcStatus(failure);
  }

  Failure failure;
  bool trailer = true;
};

// One failed call: what the client makes of it.
Failure CallAndFail(FailingService* service) {
  grpc::ServerBuilder builder;
  builder.RegisterService(service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  const auto stub = v1::ClientService::NewStub(server->InProcessChannel(grpc::ChannelArguments()));
  grpc::ClientContext context;
  v1::LeaveGroupResponse response;
  const grpc::Status status = stub->LeaveGroup(&context, v1::LeaveGroupRequest(), &response);
  REQUIRE_FALSE(status.ok());
  server->Shutdown();
  return FailureOf(status, context);
}

TEST_CASE("a failed call tells the client all of the failure") {
  FailingService service;
  service.failure = Failure{.cause = Cause::kDeadline,
                            .message = "ranks 1, 3 of group \"däta\" have not joined",
                            .group = "däta",
                            .epoch = 3,
                            .missing = {1, 3}};
  CHECK(CallAndFail(&service) == service.failure);
}

TEST_CASE("the largest failure still fits gRPC's limit for metadata") {
  FailingService service;
  service.failure.cause = Cause::kMismatch;
  service.failure.message.assign(5000, '%');  // percent-encoded: three bytes each
  service.failure.group.assign(256, 'g');
  for (Rank rank = 60000; rank < 64000; ++rank) service.failure.culprits.push_back(rank);
  service.failure.missing = service.failure.culprits;

  const Failure got = CallAndFail(&service);
  CHECK(got.cause == Cause::kMismatch);
  CHECK(got.group == service.failure.group);
  CHECK(got.message.size() == 1024);
  CHECK(got.culprits.size() == 512);
  CHECK(got.missing.size() == 512);
}

TEST_CASE("texts are cut between characters") {
  Failure failure{.cause = Cause::kInvalid};
  failure.message = std::string(511, 'a') + "ä and more";
  CHECK(ToGrpcStatus(failure).error_message() == std::string(511, 'a'));

  failure.message = std::string(1023, 'a') + "ä and more";
  v1::Failure wire;
  REQUIRE(wire.ParseFromString(FailureTrailer(failure)));
  CHECK(wire.message() == std::string(1023, 'a'));
}

TEST_CASE("a status without our trailer gets the cause that fits its code") {
  FailingService service;
  service.trailer = false;
  service.failure = Failure{.cause = Cause::kLimit, .message = "too many"};
  CHECK(CallAndFail(&service) == Failure{.cause = Cause::kLimit, .message = "too many"});

  service.failure = Failure{.cause = Cause::kBackend, .message = "broken"};
  CHECK(CallAndFail(&service) == Failure{.cause = Cause::kInternal, .message = "broken"});
}

}  // namespace
}  // namespace tutti
