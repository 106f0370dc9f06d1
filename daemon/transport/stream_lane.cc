#include "daemon/transport/stream_lane.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/failpoint.h"
#include "daemon/core/limits.h"
#include "daemon/transport/auth.h"
#include "daemon/transport/grpc_order.h"
#include "daemon/transport/request_convert.h"
#include "proto/convert.h"
#include "proto/grpc_status.h"

namespace tutti {
namespace {

// Works read ahead of the loop, per stream: enough to hide the way to the loop and back, and at
// most 16 MiB even if each fills a message.
constexpr size_t kInboxMax = 64;

// Completions per message: 256 without failures are some 2 KiB.
constexpr int kBatchMax = 256;
// A failure may name a thousand ranks; a message of 256 of them must still fit into 4 MiB.
constexpr size_t kBatchBytesMax = 256 << 10;

// A stream whose client neither opens it nor ends it is ended.
constexpr absl::Duration kOpenTimeout = absl::Seconds(5);
// How long a stream that ends may take to write what is left.
constexpr absl::Duration kFlushTimeout = absl::Seconds(1);

}  // namespace

StreamLane* StreamLane::Start(const CallServices* services, grpc::CallbackServerContext* context) {
  std::shared_ptr<StreamLane> lane(new StreamLane(services, context));
  lane->self_ = lane;
  services->loop->PostAt(services->clock->Now() + kOpenTimeout, [weak = lane->weak_from_this()] {
    const std::shared_ptr<StreamLane> self = weak.lock();
    if (self != nullptr && self->session_ == 0) self->Break("no Open in time");
  });
  BeforeReactions(lane.get());
  lane->StartReadUnlessEnding();
  return lane.get();
}

StreamLane::StreamLane(const CallServices* services, grpc::CallbackServerContext* context)
    : services_(services), context_(context), token_(TokenOf(*context)) {}

// --- Reading: gRPC's threads fill the inbox, one task of the loop empties it ---

StreamLane::Item StreamLane::ToItem(const v1::AttachRequest& request) {
  switch (request.request_case()) {
    case v1::AttachRequest::kOpen:
      return OpenRequest{request.open().acknowledged(), request.open().no_ring()};
    case v1::AttachRequest::kWork:
      return FromProto(request.work());
    case v1::AttachRequest::kAcknowledge:
      return AcknowledgeRequest{request.acknowledge().through()};
    case v1::AttachRequest::REQUEST_NOT_SET:
      break;
  }
  return std::monostate();
}

void StreamLane::OnReadDone(bool ok) {
  const InReaction reaction(this);
  if (!ok) {
    // The client sends no more, or the stream broke: either way it has ended. Completions wait for
    // the next stream.
    services_->loop->Post([self = shared_from_this()] { self->Detach(); });
    return End([] { return grpc::Status::OK; }, Flush::kYes);
  }
  Item item = ToItem(request_);
  bool post = false;
  bool full = false;
  {
    MutexLock lock(&mutex_);
    inbox_.push_back(std::move(item));
    post = !std::exchange(inbox_posted_, true);
    full = inbox_.size() >= kInboxMax;
    reading_paused_ = full;
  }
  // Before the inbox is handled, which may be done here, and take as long as an operation does.
  if (!full) StartReadUnlessEnding();
  if (post) services_->loop->PostOrRun([self = shared_from_this()] { self->HandleInbox(); });
}

void StreamLane::HandleInbox() {
  std::vector<Item> items;
  bool resume = false;
  {
    MutexLock lock(&mutex_);
    items.swap(inbox_);
    inbox_posted_ = false;
    resume = std::exchange(reading_paused_, false);
  }
  for (const Item& item : items) Handle(item);
  if (resume) StartReadUnlessEnding();
}

void StreamLane::Handle(const Item& item) {
  if (const auto* open = std::get_if<OpenRequest>(&item)) return HandleOpen(*open);
  // Not open yet, or another stream has taken over: it is told what arrived and what did not.
  if (session_ == 0) return Break("Open must come first");
  if (!attached_) return;
  if (const auto* work = std::get_if<WorkRequest>(&item)) return HandleWork(*work);
  if (const auto* acknowledge = std::get_if<AcknowledgeRequest>(&item)) {
    return HandleAcknowledge(acknowledge->through);
  }
  Break("a request of a kind this daemon does not know");
}

void StreamLane::HandleOpen(const OpenRequest& open) {
  if (session_ != 0) return Break("a second Open on one stream");
  {
    MutexLock lock(&mutex_);
    if (end_) return;
  }
  const std::optional<SessionId> session = services_->tokens->Find(token_);
  if (!session.has_value()) return EndUnauthenticated();
  if (open.no_ring.size() > kNameBytesMax) {
    return EndWith({.cause = Cause::kProtocol,
                    .message = absl::StrCat("Open.no_ring has at most ", kNameBytesMax, " bytes")});
  }
  session_ = *session;
  attached_ = true;
  no_ring_ = open.no_ring;
  // Completions that this delivers wait in the outbox until Opened has gone ahead.
  const Result<WorkNumber> last_received =
      services_->core->Attach(session_, this, open.acknowledged);
  if (!last_received.ok()) {
    attached_ = false;
    if (last_received.failure().cause == Cause::kProtocol) {
      return EndWith(last_received.failure());
    }
    return EndUnauthenticated();
  }
  {
    MutexLock lock(&mutex_);
    opened_ = *last_received;
    may_write_ = true;
  }
  Proceed();
}

void StreamLane::HandleWork(const WorkRequest& work) {
  Failpoint("lane.before_submit");
  const std::optional<Failure> broken = services_->core->Submit(session_, work);
  if (!broken.has_value()) return;
  attached_ = false;
  EndWith(*broken);
  services_->end_session(session_, *broken);
}

void StreamLane::HandleAcknowledge(uint64_t through) {
  if (const auto broken = services_->core->Acknowledge(session_, through)) {
    return Break(broken->message);
  }
  // The core has let go of them, and so must we: a client that acknowledges what it has not read
  // would otherwise make this grow without bound.
  MutexLock lock(&mutex_);
  while (!outbox_.empty() && outbox_.front().serial <= through) outbox_.pop_front();
}

void StreamLane::Break(const std::string& message) {
  Detach();
  EndWith({.cause = Cause::kProtocol, .message = message});
}

void StreamLane::Detach() {
  if (std::exchange(attached_, false)) services_->core->Detach(session_, this);
}

// --- Writing ---

void StreamLane::Deliver(const Completion& completion) {
  {
    MutexLock lock(&mutex_);
    outbox_.push_back(completion);
  }
  Proceed();
}

bool StreamLane::HasOutput() const {
  return may_write_ && (opened_.has_value() || !outbox_.empty());
}

void StreamLane::FillResponse() {
  response_.Clear();
  if (opened_.has_value()) {
    response_.mutable_opened()->set_last_received(*opened_);
    opened_.reset();
    return;
  }
  v1::Completions* const batch = response_.mutable_completions();
  size_t bytes = 0;
  while (!outbox_.empty() && batch->completions_size() < kBatchMax && bytes < kBatchBytesMax) {
    const Completion& completion = outbox_.front();
    v1::Completion* const wire = batch->add_completions();
    wire->set_serial(completion.serial);
    wire->set_number(completion.number);
    if (completion.failure.has_value()) {
      *wire->mutable_failure() = ToProto(*completion.failure);
      bytes += wire->ByteSizeLong();
    }
    outbox_.pop_front();
  }
}

void StreamLane::OnWriteDone(bool ok) {
  const InReaction reaction(this);
  {
    MutexLock lock(&mutex_);
    writing_ = false;
    --busy_;
    // The stream is broken; reading, or OnCancel, decides its end.
    if (!ok) may_write_ = false;
  }
  Proceed();
}

// --- The end ---

void StreamLane::Close(const Failure& reason) {
  attached_ = false;
  EndWith(reason);
}

void StreamLane::OnCancel() {
  const InReaction reaction(this);
  const std::shared_ptr<StreamLane> self = shared_from_this();
  // First the end, so that an Open that the loop handles from now on attaches nothing; then what
  // takes back an earlier one.
  End([] { return grpc::Status::CANCELLED; }, Flush::kNo);
  services_->loop->Post([self] { self->Detach(); });
}

void StreamLane::OnDone() {
  const InReaction reaction(this);
  // Often the last share.
  const std::shared_ptr<StreamLane> self = std::move(self_);
}

void StreamLane::EndWith(const Failure& failure) {
  End([this, failure] { return FinishWith(failure, context_); }, Flush::kYes);
}

void StreamLane::EndUnauthenticated() {
  End([this] { return Unauthenticated(context_); }, Flush::kNo);
}

void StreamLane::End(std::function<grpc::Status()> end, Flush flush) {
  // Another thread may finish the call, and gRPC then let go of it, while this still runs.
  const std::shared_ptr<StreamLane> self = shared_from_this();
  {
    MutexLock lock(&mutex_);
    if (end_) return;
    end_ = std::move(end);
    if (flush == Flush::kNo) may_write_ = false;
  }
  services_->loop->PostAt(services_->clock->Now() + kFlushTimeout, [weak = weak_from_this()] {
    if (const std::shared_ptr<StreamLane> late = weak.lock()) late->CancelUnlessFinished();
  });
  Proceed();
}

void StreamLane::CancelUnlessFinished() {
  {
    MutexLock lock(&mutex_);
    if (finished_) return;
    may_write_ = false;
    ++busy_;
  }
  // Its client does not read: the write that is outstanding fails now.
  context_->TryCancel();
  Release();
}

void StreamLane::StartReadUnlessEnding() {
  {
    MutexLock lock(&mutex_);
    if (end_) return;
    ++busy_;
  }
  StartRead(&request_);
  Release();
}

void StreamLane::Release() {
  {
    MutexLock lock(&mutex_);
    --busy_;
  }
  Proceed();
}

void StreamLane::Proceed() {
  std::function<grpc::Status()> end;
  {
    MutexLock lock(&mutex_);
    if (finished_ || writing_) return;
    if (HasOutput()) {
      FillResponse();
      writing_ = true;
      ++busy_;
    } else if (end_ && busy_ == 0) {
      finished_ = true;
      end = end_;
    } else {
      return;
    }
  }
  // Only one thread can have come here, and none after `finished_`.
  BeforeReactions(this);
  if (end) {
    Finish(end());
  } else {
    StartWrite(&response_);
  }
}

}  // namespace tutti
