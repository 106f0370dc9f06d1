// Contestant: nothing but one bidirectional gRPC stream for each rank over a Unix socket, with the
// messages of the gRPC lane: one hop to the server's callback API, one back.
#include <grpc/support/time.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "base/socket_paths.h"
#include "proto/grpc_library.h"
#include "tests/bench/bare_exchange.h"
#include "tutti/v1/client.grpc.pb.h"

namespace tutti::bench {
namespace {

std::string Target(const Arguments& arguments) {
  return GrpcTarget(absl::StrCat(arguments.scratch, "/stream.sock"));
}

// The server's side of one rank's stream. Owns itself until OnDone.
class ServerStream;

// Counts. Thread-safe; outlives the streams.
class Arrivals {
 public:
  explicit Arrivals(size_t ranks) : ranks_(ranks) {}

  void Add(ServerStream* stream);
  // A rank has said its token. Writes to all if it was the last.
  void Arrive(uint32_t token);
  // A rank has gone, and will not read what is still written.
  void Leave(ServerStream* stream);
  // A write is done: what has come up meanwhile is written, or the stream ends.
  void Wrote(ServerStream* stream);

  void WaitForFirstLeave() const { left_.WaitForNotification(); }

 private:
  const size_t ranks_;
  absl::Notification left_;

  std::mutex mutex_;
  // Guarded by mutex_, and so are the states of the streams.
  std::vector<ServerStream*> streams_;
  size_t arrived_ = 0;
  uint64_t sum_ = 0;
  uint64_t done_ = 0;
};

class ServerStream : public grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachResponse> {
 public:
  explicit ServerStream(Arrivals* arrivals) : arrivals_(arrivals) {
    arrivals_->Add(this);
    StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return arrivals_->Leave(this);
    arrivals_->Arrive(request_.work().root());
    StartRead(&request_);
  }
  void OnWriteDone(bool) override { arrivals_->Wrote(this); }
  void OnDone() override { delete this; }

 private:
  friend class Arrivals;

  void Write(uint64_t serial, uint64_t sum) {
    response_.Clear();
    v1::Completion* const completion = response_.mutable_completions()->add_completions();
    completion->set_serial(serial);
    completion->set_number(sum);
    StartWrite(&response_);
  }

  Arrivals* const arrivals_;
  v1::AttachRequest request_;
  v1::AttachResponse response_;
  // A rank reads a message, and sends the next, before gRPC has said here that it is written; so
  // the next may have to wait.
  bool writing_ = false;
  bool owed_ = false;
  uint64_t owed_sum_ = 0;
  bool leaving_ = false;
};

void Arrivals::Add(ServerStream* stream) {
  const std::lock_guard lock(mutex_);
  streams_.push_back(stream);
}

void Arrivals::Arrive(uint32_t token) {
  std::vector<ServerStream*> ready;
  uint64_t sum = 0;
  uint64_t serial = 0;
  {
    const std::lock_guard lock(mutex_);
    sum_ += token;
    if (++arrived_ < ranks_) return;
    sum = sum_;
    serial = ++done_;
    sum_ = 0;
    arrived_ = 0;
    for (ServerStream* const stream : streams_) {
      if (stream->writing_) {
        stream->owed_ = true;
        stream->owed_sum_ = sum;
      } else {
        stream->writing_ = true;
        ready.push_back(stream);
      }
    }
  }
  // None of them ends before its write is done.
  for (ServerStream* const stream : ready) stream->Write(serial, sum);
}

void Arrivals::Wrote(ServerStream* stream) {
  bool owed = false;
  bool leaving = false;
  uint64_t sum = 0;
  uint64_t serial = 0;
  {
    const std::lock_guard lock(mutex_);
    leaving = stream->leaving_;
    owed = stream->owed_ && !leaving;
    stream->owed_ = false;
    stream->writing_ = owed;
    sum = stream->owed_sum_;
    serial = done_;
  }
  if (owed) {
    stream->Write(serial, sum);
  } else if (leaving) {
    stream->Finish(grpc::Status::OK);
  }
}

void Arrivals::Leave(ServerStream* stream) {
  bool finish = false;
  {
    const std::lock_guard lock(mutex_);
    streams_.erase(std::find(streams_.begin(), streams_.end(), stream));
    stream->leaving_ = true;
    finish = !stream->writing_;
    if (!left_.HasBeenNotified()) left_.Notify();
  }
  if (finish) stream->Finish(grpc::Status::OK);
}

class Service : public v1::ClientService::CallbackService {
 public:
  explicit Service(Arrivals* arrivals) : arrivals_(arrivals) {}

  grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachResponse>* Attach(
      grpc::CallbackServerContext*) override {
    return new ServerStream(arrivals_);
  }

 private:
  Arrivals* const arrivals_;
};

class StreamServer : public BareServer {
 public:
  explicit StreamServer(const Arguments& arguments) : arrivals_(arguments.place.world_size) {
    grpc::ServerBuilder builder;
    builder.RegisterService(&service_);
    builder.AddListeningPort(Target(arguments), grpc::InsecureServerCredentials());
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) Die("the server of the bare stream does not start");
  }

  void Serve() override {
    arrivals_.WaitForFirstLeave();
    server_->Shutdown(gpr_now(GPR_CLOCK_MONOTONIC));
  }

 private:
  Arrivals arrivals_;
  Service service_{&arrivals_};
  std::unique_ptr<grpc::Server> server_;
};

class StreamClient : public BareExchange {
 public:
  explicit StreamClient(const Arguments& arguments) : BareExchange(arguments.place) {
    grpc::ChannelArguments channel_arguments;
    channel_arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    stub_ = v1::ClientService::NewStub(grpc::CreateCustomChannel(
        Target(arguments), grpc::InsecureChannelCredentials(), channel_arguments));
    stream_ = stub_->Attach(&context_);
    // As many bytes as an allreduce of a tensor of 4 KiB.
    v1::Work& work = *request_.mutable_work();
    work.set_membership(arguments.place.rank + 1);
    work.set_kind(v1::COLLECTIVE_KIND_ALLREDUCE);
    work.set_dtype(v1::DATA_TYPE_FLOAT32);
    work.set_op(v1::REDUCE_OP_SUM);
    for (v1::Span* const span : {work.add_inputs(), work.add_outputs()}) {
      span->set_arena(1);
      span->set_offset(4096);
      span->set_length(4096);
    }
  }
  ~StreamClient() override {
    context_.TryCancel();
    [[maybe_unused]] const grpc::Status status = stream_->Finish();
  }

 protected:
  uint64_t Exchange(uint32_t token) override {
    v1::Work& work = *request_.mutable_work();
    work.set_number(++number_);
    work.set_root(token);
    if (!stream_->Write(request_) || !stream_->Read(&response_)) Die("the bare stream has ended");
    const v1::Completions& completions = response_.completions();
    if (completions.completions_size() != 1 || completions.completions(0).serial() != number_) {
      Die("not the completion of this exchange");
    }
    return completions.completions(0).number();
  }

 private:
  std::unique_ptr<v1::ClientService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::AttachRequest, v1::AttachResponse>> stream_;
  v1::AttachRequest request_;
  v1::AttachResponse response_;
  uint64_t number_ = 0;
};

}  // namespace
}  // namespace tutti::bench

int main(int argc, char** argv) {
  using tutti::bench::Arguments;
  tutti::KeepGrpcInitialized();
  return tutti::bench::RunBareProgram(
      argc, argv,
      {.description = "one gRPC stream for each rank, and a process that only counts arrivals",
       .make_server =
           [](const Arguments& arguments) {
             return std::make_unique<tutti::bench::StreamServer>(arguments);
           },
       .make_client =
           [](const Arguments& arguments) {
             return std::make_unique<tutti::bench::StreamClient>(arguments);
           }});
}
