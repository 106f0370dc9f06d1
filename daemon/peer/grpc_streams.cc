#include "daemon/peer/grpc_streams.h"

#include <grpc/support/time.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/peer/convert.h"
#include "daemon/peer/tcp.h"
#include "daemon/transport/grpc_order.h"
#include "proto/grpc_library.h"

namespace tutti {
namespace {

// Of connections of daemons: some hundreds of links with what they read, 64 KiB each.
constexpr size_t kQuotaBytes = 256 << 20;

// A link and nothing else; a second for a dial that comes before the end of the first is known.
constexpr int kStreamsMax = 2;

// A connection that does not say what it wants, and a stream without Hello, is ended.
constexpr absl::Duration kHelloTimeout = absl::Seconds(5);

int ToMs(absl::Duration duration) { return static_cast<int>(absl::ToInt64Milliseconds(duration)); }

// A stream that was opened here.
class DialledStream final : public LinkStream,
                            public grpc::ClientBidiReactor<v1::LinkFrame, v1::LinkFrame> {
 public:
  static std::shared_ptr<LinkStream> Start(const LinkStreamServices* services, StreamId id,
                                           std::shared_ptr<grpc::Channel> channel,
                                           const Hello& hello) {
    std::shared_ptr<DialledStream> stream(new DialledStream(services, id, std::move(channel)));
    stream->self_ = stream;
    stream->stub_->async()->Link(&stream->context_, stream.get());
    // Until Finish: reads and writes begin outside of reactions.
    stream->AddHold();
    BeforeReactions(stream.get());
    stream->StartReadUnlessFinished();
    stream->StartCall();
    stream->Send(hello);
    return stream;
  }

  std::string Other() const override { return context_.peer(); }

  void OnReadDone(bool ok) override {
    const InReaction reaction(this);
    HandleReadDone(ok);
  }
  void OnWriteDone(bool ok) override {
    const InReaction reaction(this);
    HandleWriteDone(ok);
  }
  void OnDone(const grpc::Status& status) override {
    const InReaction reaction(this);
    TellBroken(status.ok() ? "it has ended the link" : status.error_message());
    HandleDone();
  }

 private:
  DialledStream(const LinkStreamServices* services, StreamId id,
                std::shared_ptr<grpc::Channel> channel)
      : LinkStream(services, id, /*dialled=*/true),
        channel_(std::move(channel)),
        stub_(v1::PeerService::NewStub(channel_)) {}

  void StartReading(v1::LinkFrame* frame) override {
    BeforeReactions(this);
    StartRead(frame);
  }
  void StartWriting(const v1::LinkFrame* frame) override {
    BeforeReactions(this);
    StartWrite(frame);
  }
  void FinishStream() override {
    BeforeReactions(this);
    StartWritesDone();
    RemoveHold();
  }
  void Cancel() override { context_.TryCancel(); }
  bool MayCancelAfterFinish() const override { return true; }
  bool TellsWhyWhenDone() const override { return true; }
  std::string WhyReadEnded() const override { return ""; }

  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::PeerService::Stub> stub_;
  grpc::ClientContext context_;
};

// A stream that another daemon has opened.
class AnsweredStream final : public LinkStream,
                             public grpc::ServerBidiReactor<v1::LinkFrame, v1::LinkFrame> {
 public:
  static AnsweredStream* Start(const LinkStreamServices* services, StreamId id,
                               grpc::CallbackServerContext* context) {
    std::shared_ptr<AnsweredStream> stream(new AnsweredStream(services, id, context));
    stream->self_ = stream;
    services->loop->PostAt(services->clock->Now() + kHelloTimeout,
                           [weak = std::weak_ptr<AnsweredStream>(stream)] {
                             const auto late = weak.lock();
                             if (late != nullptr && !late->HasReceived()) late->Break("no Hello");
                           });
    BeforeReactions(stream.get());
    stream->StartReadUnlessFinished();
    return stream.get();
  }

  std::string Other() const override { return other_; }

  void OnReadDone(bool ok) override {
    const InReaction reaction(this);
    HandleReadDone(ok);
  }
  void OnWriteDone(bool ok) override {
    const InReaction reaction(this);
    HandleWriteDone(ok);
  }
  void OnCancel() override {
    const InReaction reaction(this);
    Break(kBroke);
  }
  void OnDone() override {
    const InReaction reaction(this);
    TellBroken(kBroke);
    HandleDone();
  }

 private:
  static constexpr char kBroke[] = "the connection broke";

  AnsweredStream(const LinkStreamServices* services, StreamId id,
                 grpc::CallbackServerContext* context)
      : LinkStream(services, id, /*dialled=*/false), context_(context), other_(context->peer()) {}

  void StartReading(v1::LinkFrame* frame) override {
    BeforeReactions(this);
    StartRead(frame);
  }
  void StartWriting(const v1::LinkFrame* frame) override {
    BeforeReactions(this);
    StartWrite(frame);
  }
  void FinishStream() override {
    BeforeReactions(this);
    Finish(grpc::Status::OK);
  }
  void Cancel() override { context_->TryCancel(); }
  bool MayCancelAfterFinish() const override { return false; }
  bool TellsWhyWhenDone() const override { return false; }
  std::string WhyReadEnded() const override {
    return context_->IsCancelled() ? kBroke : "it has ended the link";
  }

  grpc::CallbackServerContext* const context_;
  const std::string other_;
};

// A call that may not be made.
class RefusedStream final : public grpc::ServerBidiReactor<v1::LinkFrame, v1::LinkFrame> {
 public:
  explicit RefusedStream(const grpc::Status& status) {
    // Reactions begin when the handler has returned this.
    Finish(status);
    BeforeReactions(this);
  }
  void OnDone() override {
    const InReaction reaction(this);
    const std::unique_ptr<RefusedStream> self(this);
  }
};

}  // namespace

class GrpcStreams::Service final : public v1::PeerService::CallbackService {
 public:
  explicit Service(GrpcStreams* streams) : streams_(streams) {}

  grpc::ServerBidiReactor<v1::LinkFrame, v1::LinkFrame>* Link(
      grpc::CallbackServerContext* context) override {
    const grpc::Status admitted = streams_->options_.admit(*context->auth_context());
    if (!admitted.ok()) return new RefusedStream(admitted);
    {
      MutexLock lock(&streams_->mutex_);
      ++streams_->answered_;
    }
    return AnsweredStream::Start(&streams_->services_, ++streams_->last_id_, context);
  }

  grpc::ServerUnaryReactor* GetNode(grpc::CallbackServerContext* context,
                                    const v1::GetNodeRequest* request,
                                    v1::GetNodeResponse* answer) override {
    grpc::Status status = streams_->options_.admit(*context->auth_context());
    if (status.ok()) status = streams_->options_.answer(*request, answer);
    {
      // Orders this before what comes after Shutdown, for ThreadSanitizer.
      MutexLock lock(&streams_->mutex_);
    }
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    reactor->Finish(status);
    return reactor;
  }

 private:
  GrpcStreams* const streams_;
};

std::unique_ptr<GrpcStreams> GrpcStreams::Create(Options options) {
  KeepGrpcInitialized();
  std::unique_ptr<GrpcStreams> streams(new GrpcStreams(std::move(options)));
  return streams->StartServer() ? std::move(streams) : nullptr;
}

GrpcStreams::GrpcStreams(Options options)
    : options_(std::move(options)),
      services_{.clock = options_.clock,
                .loop = options_.loop,
                .host = this,
                .outbox_bytes_max = options_.outbox_bytes_max},
      service_(std::make_unique<Service>(this)) {}

GrpcStreams::~GrpcStreams() {
  // Orders what streams did last before their end, for ThreadSanitizer.
  MutexLock lock(&mutex_);
}

bool GrpcStreams::StartServer() {
  grpc::ResourceQuota quota("tutti.v1.PeerService");
  quota.Resize(kQuotaBytes);
  grpc::ServerBuilder builder;
  builder.RegisterService(service_.get())
      .SetResourceQuota(quota)
      .SetMaxReceiveMessageSize(kFrameBytesMax)
      .AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreamsMax)
      .AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, ToMs(kHelloTimeout))
      .AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, ToMs(options_.keepalive))
      .AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, ToMs(options_.timeout))
      .AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1)
      .AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0)
      // By default it takes frequent probes for an attack, and ends the connection.
      .AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                          std::max(ToMs(options_.keepalive) / 2, 1));
  // gRPC's own listener never accepts again after one EMFILE (notes/reliability.md, G-1).
  connections_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      options_.server_credentials);
  server_ = builder.BuildAndStart();
  return server_ != nullptr;
}

void GrpcStreams::Serve(UniqueFd connection) {
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
  parameters.fd = connection.Release();
  connections_->HandleNewConnection(&parameters);
}

void GrpcStreams::Shutdown(absl::Duration patience) {
  // First the channels: when gRPC 1.51 has neither channel nor server left, it joins the threads
  // that run reactions; and the end of a reaction may be the end of a channel.
  {
    MutexLock lock(&mutex_);
    while (dialled_ > 0) one_gone_.Wait(&mutex_);
  }
  const gpr_timespec span = gpr_time_from_millis(absl::ToInt64Milliseconds(patience), GPR_TIMESPAN);
  server_->Shutdown(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), span));
  MutexLock lock(&mutex_);
  while (answered_ > 0) one_gone_.Wait(&mutex_);
}

// --- Dialling ---

grpc::ChannelArguments GrpcStreams::ChannelArguments() const {
  const absl::Duration patience = options_.keepalive + options_.timeout;
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // How long one attempt to connect may take; there is no second on this channel.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, ToMs(patience));
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  // A Hello is said once: what the numbers of dials are for.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, ToMs(options_.keepalive));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, ToMs(options_.timeout));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                   std::max(ToMs(options_.keepalive) / 2, 1));
  arguments.SetMaxReceiveMessageSize(kFrameBytesMax);
  return arguments;
}

StreamId GrpcStreams::Dial(const std::string& address, const Hello& hello) {
  const StreamId id = ++last_id_;
  {
    MutexLock lock(&mutex_);
    ++dialled_;
  }
  auto channel = grpc::CreateCustomChannel(GrpcAddress(address), options_.channel_credentials,
                                           ChannelArguments());
  streams_[id] = DialledStream::Start(&services_, id, std::move(channel), hello);
  return id;
}

void GrpcStreams::Send(StreamId stream, LinkFrame frame) {
  const auto found = streams_.find(stream);
  if (found != streams_.end()) found->second->Send(frame);
}

void GrpcStreams::End(StreamId stream, std::optional<LinkEnd> last) {
  const std::shared_ptr<LinkStream> ended = Take(stream);
  if (ended == nullptr) return;
  ended->Silence();
  if (last.has_value()) ended->Send(*last);
  ended->End();
}

std::string GrpcStreams::LocalHost(StreamId stream) {
  const auto found = streams_.find(stream);
  return found == streams_.end() ? "" : LocalHostToward(found->second->Other());
}

std::shared_ptr<LinkStream> GrpcStreams::Take(StreamId stream) {
  auto taken = streams_.extract(stream);
  return taken.empty() ? nullptr : std::move(taken.mapped());
}

// --- What streams tell ---

void GrpcStreams::Received(const std::shared_ptr<LinkStream>& stream, LinkFrame frame) {
  // Whom another daemon has opened is known from its first frame on.
  streams_.emplace(stream->id(), stream);
  options_.listener->Received(stream->id(), std::move(frame));
}

void GrpcStreams::Broke(const std::shared_ptr<LinkStream>& stream, const std::string& why) {
  if (Take(stream->id()) == nullptr) return;
  stream->End();
  options_.listener->Broke(stream->id(), why);
}

void GrpcStreams::Gone(bool dialled) {
  MutexLock lock(&mutex_);
  --(dialled ? dialled_ : answered_);
  one_gone_.SignalAll();
}

}  // namespace tutti
