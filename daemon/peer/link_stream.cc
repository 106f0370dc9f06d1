#include "daemon/peer/link_stream.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/peer/convert.h"

namespace tutti {
namespace {

// Frames read ahead of the loop: enough to hide the way to it and back.
constexpr size_t kInboxMax = 64;

// How long a stream that ends may take to write what is left.
constexpr absl::Duration kFlushTimeout = absl::Seconds(1);

}  // namespace

// --- Reading ---

void LinkStream::HandleReadDone(bool ok) {
  if (!ok) {
    if (!TellsWhyWhenDone()) TellBroken(WhyReadEnded());
    StopWriting();
    return Proceed();
  }
  absl::StatusOr<LinkFrame> frame = FromProto(read_);
  if (!frame.ok()) {
    const std::string why(frame.status().message());
    TellBroken(absl::StrCat("it has said what can't be: ", why));
    Send(LinkEnd{LinkEndReason::kProtocol, absl::StrCat("this can't be: ", why)});
    return End();
  }
  bool post = false;
  bool full = false;
  {
    MutexLock lock(&mutex_);
    received_ = true;
    inbox_.push_back(*std::move(frame));
    post = !std::exchange(inbox_posted_, true);
    full = inbox_.size() >= kInboxMax;
    reading_paused_ = full;
  }
  // Before the inbox is handled, which may be done here, and take a while.
  if (!full) StartReadUnlessFinished();
  if (post) PostInbox();
}

bool LinkStream::HasReceived() {
  MutexLock lock(&mutex_);
  return received_;
}

void LinkStream::StartReadUnlessFinished() {
  {
    MutexLock lock(&mutex_);
    if (finished_) return;
    ++busy_;
  }
  StartReading(&read_);
  Release();
}

void LinkStream::TellBroken(const std::string& why) {
  {
    MutexLock lock(&mutex_);
    if (std::exchange(told_broken_, true)) return;
    inbox_.push_back(Broken{why_.empty() ? why : why_});
    if (std::exchange(inbox_posted_, true)) return;
  }
  PostInbox();
}

void LinkStream::PostInbox() {
  services_->loop->PostOrRun([self = shared_from_this()] { self->HandleInbox(); });
}

void LinkStream::HandleInbox() {
  std::vector<Item> items;
  bool resume = false;
  {
    MutexLock lock(&mutex_);
    items.swap(inbox_);
    inbox_posted_ = false;
    resume = std::exchange(reading_paused_, false);
  }
  const std::shared_ptr<LinkStream> self = shared_from_this();
  for (Item& item : items) {
    if (silent_) break;
    if (auto* const frame = std::get_if<LinkFrame>(&item)) {
      services_->host->Received(self, std::move(*frame));
    } else {
      silent_ = true;
      services_->host->Broke(self, std::get<Broken>(item).why);
    }
  }
  if (resume) StartReadUnlessFinished();
}

// --- Writing ---

void LinkStream::Send(const LinkFrame& frame) {
  v1::LinkFrame wire = ToProto(frame);
  const size_t bytes = wire.ByteSizeLong();
  size_t waiting = 0;
  {
    MutexLock lock(&mutex_);
    if (ending_) return;
    waiting = outbox_bytes_ + bytes;
    if (waiting <= services_->outbox_bytes_max) {
      outbox_bytes_ = waiting;
      outbox_.push_back(std::move(wire));
    }
  }
  if (waiting <= services_->outbox_bytes_max) return Proceed();
  Break(absl::StrCat("it does not read what it is sent: ", waiting, " bytes wait"));
}

void LinkStream::HandleWriteDone(bool ok) {
  {
    MutexLock lock(&mutex_);
    writing_ = false;
    --busy_;
  }
  // The stream is broken; the read that is outstanding will say why.
  if (!ok) StopWriting();
  Proceed();
}

// --- The end ---

void LinkStream::End() {
  {
    MutexLock lock(&mutex_);
    if (std::exchange(ending_, true)) return;
  }
  services_->loop->PostAt(services_->clock->Now() + kFlushTimeout, [weak = weak_from_this()] {
    if (const std::shared_ptr<LinkStream> late = weak.lock()) late->CancelUnlessDone();
  });
  Proceed();
}

void LinkStream::StopWriting() {
  MutexLock lock(&mutex_);
  ending_ = true;
  outbox_.clear();
  outbox_bytes_ = 0;
}

void LinkStream::Break(const std::string& why) {
  {
    MutexLock lock(&mutex_);
    if (why_.empty()) why_ = why;
  }
  // Posted: whoever sends hears nothing from within.
  services_->loop->Post([self = shared_from_this(), why] { self->TellBroken(why); });
  CancelUnlessDone();
}

void LinkStream::CancelUnlessDone() {
  // Often the last share, once it is released.
  const std::shared_ptr<LinkStream> self = shared_from_this();
  StopWriting();
  {
    MutexLock lock(&mutex_);
    if (done_ || (finished_ && !MayCancelAfterFinish())) return;
    ++busy_;
  }
  Cancel();
  Release();
}

void LinkStream::HandleDone() {
  {
    MutexLock lock(&mutex_);
    done_ = true;
  }
  // Often the last share.
  const std::shared_ptr<LinkStream> self = std::move(self_);
}

void LinkStream::Release() {
  {
    MutexLock lock(&mutex_);
    --busy_;
  }
  Proceed();
}

void LinkStream::Proceed() {
  bool finish = false;
  {
    MutexLock lock(&mutex_);
    if (finished_ || writing_) return;
    if (!outbox_.empty()) {
      written_ = std::move(outbox_.front());
      outbox_.pop_front();
      outbox_bytes_ -= written_.ByteSizeLong();
      writing_ = true;
      ++busy_;
    } else if (ending_ && busy_ == 0) {
      finished_ = finish = true;
    } else {
      return;
    }
  }
  // Only one thread can have come here, and none after `finished_`.
  const std::shared_ptr<LinkStream> self = shared_from_this();
  if (finish) {
    FinishStream();
  } else {
    StartWriting(&written_);
  }
}

}  // namespace tutti
