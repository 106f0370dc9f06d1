#include "client/cpp/stream_lane.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/convert.h"
#include "proto/grpc_status.h"

namespace tutti {
inline namespace client {
namespace {

using Clock = std::chrono::steady_clock;

// Before the second attempt and later ones; the first is made at once.
constexpr std::chrono::milliseconds kBackoffMin(50);
constexpr std::chrono::milliseconds kBackoffMax(500);

// Attempts in a row that never got a stream: about 30 s, after which the daemon's gRPC is given up
// although its session socket is open.
constexpr int kAttemptsMax = 63;

// What a daemon that ends a session has said on the stream arrives within a millisecond of the
// socket's end; a daemon that died says nothing, and its stream breaks as quickly.
constexpr std::chrono::milliseconds kLastWords(100);

// Whoever has waited will most likely wait again: the thread leaves the stream to them for so long.
// Meanwhile completions that nobody waits for may lie there.
constexpr std::chrono::milliseconds kThreadPause(100);

// gRPC's Read has no deadline, and to end it breaks the stream. So only those read who wait until
// the daemon must have answered, or nearly so long.
constexpr std::chrono::milliseconds kPatienceSlack(100);

// If the daemon does not say how many works may be in flight: its default.
constexpr uint64_t kInFlightMax = 1024;

// The daemon keeps each completion until it is acknowledged, and ends a session that leaves it with
// four times as many as may be in flight.
constexpr uint64_t kAcknowledgeEvery = 64;

void AddSpans(const Spans& spans, google::protobuf::RepeatedPtrField<v1::Span>* to) {
  to->Reserve(static_cast<int>(spans.size()));
  for (const RingSpan& span : spans) {
    v1::Span* const added = to->Add();
    added->set_arena(span.arena);
    added->set_offset(span.offset);
    added->set_length(span.length);
  }
}

v1::Work ToProto(const Request& request) {
  v1::Work work;
  work.set_membership(request.membership);
  work.set_kind(tutti::ToProto(request.kind));
  work.set_dtype(tutti::ToProto(request.dtype));
  work.set_op(tutti::ToProto(request.op));
  work.set_root(request.root);
  work.set_timeout_ms(request.timeout_ms);
  AddSpans(request.inputs, work.mutable_inputs());
  AddSpans(request.outputs, work.mutable_outputs());
  return work;
}

// A status that says what trying again will not change. (Breaks of the transport, daemons that
// restart and streams that were cancelled are not among them.)
bool IsFinal(const grpc::Status& status, const grpc::ClientContext& context) {
  const auto& trailers = context.GetServerTrailingMetadata();
  if (trailers.find(kFailureKey) != trailers.end()) return true;
  switch (status.error_code()) {
    case grpc::StatusCode::UNAUTHENTICATED:
    case grpc::StatusCode::PERMISSION_DENIED:
    case grpc::StatusCode::UNIMPLEMENTED:
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return true;
    default:
      return false;
  }
}

}  // namespace

StreamLane::StreamLane(Options options)
    : options_{options.rpc, options.in_flight_max == 0 ? kInFlightMax : options.in_flight_max,
               std::move(options.no_ring), std::move(options.ended)},
      acknowledge_every_(std::min(kAcknowledgeEvery, options_.in_flight_max)) {
  thread_.emplace("tutti-lane", [this] { Run(); });
}

StreamLane::~StreamLane() = default;

std::optional<Failure> StreamLane::WaitAttached(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  const bool decided = changed_.wait_until(lock, Clock::now() + timeout,
                                           [this] { return attached_ || end_.has_value(); });
  if (end_.has_value()) return end_;
  if (decided) return std::nullopt;
  return Failure{.cause = Cause::kDeadline,
                 .message = absl::StrCat("the daemon has not accepted the lane within ",
                                         timeout.count(), " ms: it is stopped or overloaded")};
}

void StreamLane::Submit(const Request& operation, std::shared_ptr<PendingWork> pending) {
  pending->SetSource(shared_from_this());
  std::optional<Failure> refused;
  {
    std::unique_lock lock(mutex_);
    const bool room = Drive(
        &lock,
        [this] {
          return end_.has_value() || queue_.in_flight() + submitting_ < options_.in_flight_max;
        },
        Clock::now() + absl::ToChronoNanoseconds(pending->patience()), false);
    if (end_.has_value()) {
      refused = end_;
    } else if (!room) {
      refused = Failure{.cause = Cause::kLimit,
                        .message = absl::StrCat(options_.in_flight_max,
                                                " operations are in flight, and none has ended; "
                                                "works_in_flight_max is the daemon's setting")};
    } else {
      ++submitting_;
    }
  }
  if (refused.has_value()) return pending->Complete(std::move(refused));

  const std::lock_guard write_lock(write_mutex_);
  v1::AttachRequest request;
  {
    const std::lock_guard lock(mutex_);
    --submitting_;
    if (end_.has_value()) {
      refused = end_;
    } else {
      *request.mutable_work() = queue_.Add(ToProto(operation), pending);
    }
  }
  if (refused.has_value()) return pending->Complete(std::move(refused));
  // If it can't be written, the next stream sends it.
  if (stream_ != nullptr) stream_->Write(request);
}

uint64_t StreamLane::last_number() {
  const std::lock_guard lock(mutex_);
  return queue_.last_number();
}

void StreamLane::End(const Failure& reason) {
  std::unique_lock lock(mutex_);
  if (!end_.has_value()) end_ = reason;
  WakeAll();
  wake_thread_.notify_one();
  changed_.wait_until(lock, Clock::now() + kLastWords, [this] { return stopped_; });
  if (context_ != nullptr) context_->TryCancel();
  lock.unlock();
  FailAll(reason);
}

void StreamLane::FailAll(const Failure& reason) {
  std::vector<std::shared_ptr<PendingWork>> works;
  std::optional<Failure> end;
  {
    const std::lock_guard lock(mutex_);
    if (!end_.has_value()) end_ = reason;
    end = end_;
    works = queue_.TakeAll();
    WakeAll();
  }
  for (const std::shared_ptr<PendingWork>& work : works) work->Complete(end);
  const std::lock_guard lock(mutex_);
  WakeAll();
}

// --- Reading: by those who wait, or by the thread ---

void StreamLane::WaitFor(const PendingWork& work, Deadline deadline) {
  const auto patience = absl::ToChronoNanoseconds(work.patience());
  const bool may_read = Clock::now() + patience - deadline < kPatienceSlack;
  std::unique_lock lock(mutex_);
  Drive(
      &lock, [&work] { return work.is_done(); }, deadline, may_read);
}

bool StreamLane::Drive(std::unique_lock<std::mutex>* lock, absl::FunctionRef<bool()> done,
                       Deadline deadline, bool may_read) {
  if (done()) return true;
  if (may_read) ++waits_;
  Waiter waiter{.done = done, .may_read = may_read};
  do {
    if (may_read && readable_ != nullptr && !reading_) {
      reader_until_ = deadline;
      ReadOne(lock);
      continue;
    }
    if (!may_read && !std::exchange(thread_wanted_, true)) wake_thread_.notify_one();
    const auto place = waiters_.insert(waiters_.end(), &waiter);
    waiter.changed.wait_until(*lock, deadline);
    waiters_.erase(place);
  } while (!done() && Clock::now() < deadline);
  // Whoever was to follow may be the one who leaves.
  PassOn();
  return done();
}

void StreamLane::WakeDone() {
  for (Waiter* const waiter : waiters_) {
    if (waiter->done()) waiter->changed.notify_one();
  }
}

void StreamLane::WakeAll() {
  changed_.notify_all();
  for (Waiter* const waiter : waiters_) waiter->changed.notify_one();
}

void StreamLane::PassOn() {
  if (waiters_.empty() || readable_ == nullptr || reading_) return;
  for (Waiter* const waiter : waiters_) {
    if (waiter->may_read && !waiter->done()) return waiter->changed.notify_one();
  }
  if (!std::exchange(thread_wanted_, true)) wake_thread_.notify_one();
}

void StreamLane::ReadOne(std::unique_lock<std::mutex>* lock) {
  reading_ = true;
  Stream* const stream = readable_;
  lock->unlock();
  v1::AttachResponse response;
  const bool read = stream->Read(&response);
  std::optional<Failure> wrong;
  if (read && response.has_completions()) wrong = TakeCompletions(response.completions());
  if (read && !wrong.has_value()) AcknowledgeIfDue();
  lock->lock();
  reading_ = false;
  reader_until_ = Deadline::max();
  if (!read || wrong.has_value()) {
    readable_ = nullptr;
    wrong_ = std::move(wrong);
  }
  // At the end nobody may come who waits.
  if (readable_ == nullptr || end_.has_value()) wake_thread_.notify_one();
  WakeDone();
}

void StreamLane::ReadUnlessOthersDo() {
  std::unique_lock lock(mutex_);
  uint64_t waits = waits_;
  while (readable_ != nullptr || reading_) {
    const bool wanted = std::exchange(thread_wanted_, false);
    const bool others_waited = std::exchange(waits, waits_) != waits_;
    if (!reading_ && (wanted || !others_waited || end_.has_value())) {
      reader_until_ = Deadline::max();
      ReadOne(&lock);
      continue;
    }
    PassOn();
    const Deadline now = Clock::now();
    if (now >= reader_until_) {
      // Whoever reads can't give up by itself.
      context_->TryCancel();
      reader_until_ = Deadline::max();
    }
    wake_thread_.wait_until(lock, std::min(reader_until_, now + kThreadPause));
  }
}

void StreamLane::Run() {
  for (int attempt = 0; WaitForNextAttempt(attempt); ++attempt) {
    const std::optional<Failure> final = RunStream();
    const std::lock_guard lock(mutex_);
    if (attached_) attempt = 0;
    attached_ = false;
    if (final.has_value()) {
      // What the daemon says here is more precise than the end of the session that follows.
      end_ = final;
      break;
    }
  }
  std::optional<Failure> end;
  {
    const std::lock_guard lock(mutex_);
    if (!end_.has_value()) {
      end_ = Failure{.cause = Cause::kNodeLost,
                     .message =
                         "the daemon does not accept the lane any more, although the session "
                         "is open; connect again"};
    }
    end = end_;
    stopped_ = true;
  }
  FailAll(*end);
  options_.ended(*end);
}

bool StreamLane::WaitForNextAttempt(int attempt) {
  if (attempt >= kAttemptsMax) return false;
  std::unique_lock lock(mutex_);
  if (attempt > 0) {
    const auto backoff = std::min(kBackoffMax, kBackoffMin * (1 << std::min(attempt - 1, 4)));
    changed_.wait_until(lock, Clock::now() + backoff, [this] { return end_.has_value(); });
  }
  return !end_.has_value();
}

std::optional<Failure> StreamLane::RunStream() {
  grpc::ClientContext context;
  context.AddMetadata(kTokenKey, options_.rpc->token());
  {
    const std::lock_guard lock(mutex_);
    if (end_.has_value()) return std::nullopt;
    context_ = &context;
  }
  const std::unique_ptr<Stream> stream = options_.rpc->stub()->Attach(&context);
  std::optional<Failure> failure = OpenStream(stream.get());
  ReadUnlessOthersDo();
  {
    const std::lock_guard write_lock(write_mutex_);
    stream_ = nullptr;
  }
  {
    const std::lock_guard lock(mutex_);
    if (!failure.has_value()) failure = std::exchange(wrong_, std::nullopt);
  }
  if (failure.has_value()) context.TryCancel();
  const grpc::Status status = stream->Finish();
  const std::lock_guard lock(mutex_);
  context_ = nullptr;
  if (failure.has_value() || status.ok()) return failure;
  if (IsFinal(status, context)) return FailureOf(status, context);
  return std::nullopt;
}

std::optional<Failure> StreamLane::OpenStream(Stream* stream) {
  v1::AttachRequest request;
  {
    const std::lock_guard lock(mutex_);
    request.mutable_open()->set_acknowledged(queue_.last_serial());
    request.mutable_open()->set_no_ring(options_.no_ring);
    queue_.Acknowledge();
  }
  v1::AttachResponse response;
  if (!stream->Write(request) || !stream->Read(&response)) return std::nullopt;
  if (!response.has_opened()) {
    return Failure{.cause = Cause::kProtocol,
                   .message = "the daemon's first message on the lane is not Opened"};
  }
  const std::lock_guard write_lock(write_mutex_);
  std::vector<v1::AttachRequest> again;
  {
    const std::lock_guard lock(mutex_);
    std::vector<const v1::Work*> works;
    if (std::optional<Failure> failure =
            queue_.WorksAfter(response.opened().last_received(), &works)) {
      return failure;
    }
    for (const v1::Work* const work : works) *again.emplace_back().mutable_work() = *work;
    attached_ = true;
    readable_ = stream;
    WakeAll();
  }
  for (const v1::AttachRequest& work : again) stream->Write(work);
  stream_ = stream;
  return std::nullopt;
}

std::optional<Failure> StreamLane::TakeCompletions(const v1::Completions& completions) {
  for (const v1::Completion& completion : completions.completions()) {
    std::shared_ptr<PendingWork> pending;
    {
      const std::lock_guard lock(mutex_);
      if (std::optional<Failure> failure = queue_.Take(completion, &pending)) return failure;
    }
    if (pending == nullptr) continue;
    std::optional<Failure> failure;
    if (completion.has_failure()) failure = FromProto(completion.failure());
    pending->Complete(std::move(failure));
  }
  return std::nullopt;
}

void StreamLane::AcknowledgeIfDue() {
  v1::AttachRequest request;
  {
    const std::lock_guard lock(mutex_);
    if (queue_.unacknowledged() < acknowledge_every_) return;
    request.mutable_acknowledge()->set_through(queue_.last_serial());
    queue_.Acknowledge();
  }
  const std::lock_guard write_lock(write_mutex_);
  if (stream_ != nullptr) stream_->Write(request);
}

}  // namespace client
}  // namespace tutti
