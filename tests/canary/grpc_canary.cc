// A data race in a handler of ours, called by gRPC's threads, for canary_test.sh to see that TSan
// reports it in spite of bazel/tsan_grpc.supp: patterns a little wider than those hide it, because
// the signatures of our handlers contain "grpc::".

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <memory>

namespace {

int calls = 0;

class Reactor final : public grpc::ServerGenericBidiReactor {
 public:
  Reactor() {
    ++calls;  // The crime: handlers run on many threads.
    Finish(grpc::Status::OK);
  }
  void OnDone() override { delete this; }
};

class Service final : public grpc::CallbackGenericService {
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override {
    return new Reactor;
  }
};

void Call(grpc::Server& server) {
  grpc::GenericStub stub(server.InProcessChannel(grpc::ChannelArguments()));
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareUnaryCall(&context, "/canary", grpc::ByteBuffer(), &queue);
  call->StartCall();
  grpc::ByteBuffer reply;
  grpc::Status status;
  call->Finish(&reply, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
}

}  // namespace

int main() {
  Service service;
  grpc::ServerBuilder builder;
  builder.RegisterCallbackGenericService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  // TSan remembers the last accesses to each word, so a race shows whatever the timing, as long as
  // two threads have called.
  for (int i = 0; i < 100; ++i) Call(*server);
  ++calls;
  server->Shutdown();
  return 0;
}
