// The daemon's side of a ring for tests of the client's: takes works on a thread of its own and
// completes them as a test says.
#pragma once

#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/failure.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "proto/convert.h"
#include "shm/doorbell.h"
#include "shm/ring_region.h"

namespace tutti {

// Zeroed pages.
class RingMemory {
 public:
  explicit RingMemory(uint32_t entries) : pages_(RingBytes(entries) / sizeof(Page) + 1) {}
  std::byte* data() { return pages_[0].bytes; }

 private:
  struct alignas(4096) Page {
    std::byte bytes[4096] = {};
  };
  std::vector<Page> pages_;
};

// Not thread-safe, but for what a test does with its atomics. Its memory outlives the client's
// lane.
class RingDaemon {
 public:
  explicit RingDaemon(uint32_t entries)
      : memory_(entries),
        region_(memory_.data(), entries),
        works_(region_.submissions()),
        completions_(region_.completions()) {
    auto pair = MakeDoorbell();
    TUTTI_CHECK(pair.ok());
    ours_ = std::move(pair->ours);
    theirs_ = std::move(pair->theirs);
  }
  ~RingDaemon() { Stop(); }

  RingRegion region() const { return region_; }
  UniqueFd TakeDoorbell() { return std::move(theirs_); }
  void HangUp() { ours_.Reset(); }

  // Takes the oldest work, waiting for it.
  SubmissionEntry Take() {
    SubmissionEntry entry;
    while (works_.TryPop(&entry) != RingConsumer<SubmissionEntry>::Pop::kDone) {
      if (works_.MaySleep()) {
        pollfd waited{.fd = ours_.get(), .events = POLLIN, .revents = 0};
        TUTTI_CHECK(poll(&waited, 1, 10'000) == 1);
      }
      works_.Awake();
      SilenceDoorbell(ours_.get());
    }
    return entry;
  }
  // As a daemon that sleeps; WasRung says whether it has been woken.
  bool MaySleep() { return works_.MaySleep(); }
  bool WasRung() const {
    pollfd waited{.fd = ours_.get(), .events = POLLIN, .revents = 0};
    return poll(&waited, 1, 0) == 1;
  }
  // Returns once the client sleeps.
  void AwaitSleeper() const {
    uint32_t* const sleeps = region_.completions().consumer_sleeps;
    while (SharedMemory::Load(sleeps) == 0) std::this_thread::yield();
  }
  bool TryTake(SubmissionEntry* entry) {
    return works_.TryPop(entry) == RingConsumer<SubmissionEntry>::Pop::kDone;
  }

  void Complete(uint64_t number) { Put({.serial = ++serial_, .number = number}); }
  void Fail(uint64_t number, const Failure& failure, uint32_t slot) {
    const std::string bytes = ToProto(failure).SerializeAsString();
    std::memcpy(region_.failure_slot(slot), bytes.data(), bytes.size());
    Put({.serial = ++serial_,
         .number = number,
         .failure = slot + 1,
         .failure_bytes = static_cast<uint32_t>(bytes.size())});
  }
  void Put(const CompletionEntry& entry) {
    TUTTI_CHECK(completions_.TryPush(entry) == RingProducer<CompletionEntry>::Push::kDone);
    if (completions_.MustRing()) RingDoorbell(ours_.get());
  }

  // Completes every work that comes, on a thread, until Stop.
  void CompleteAll() {
    thread_.emplace("ring-daemon", [this] {
      SubmissionEntry entry;
      while (!stopping_) {
        if (TryTake(&entry)) {
          Complete(entry.number);
          continue;
        }
        if (works_.MaySleep()) {
          pollfd waited{.fd = ours_.get(), .events = POLLIN, .revents = 0};
          poll(&waited, 1, 1000);
        }
        works_.Awake();
        SilenceDoorbell(ours_.get());
      }
    });
  }
  void Stop() {
    stopping_ = true;
    if (theirs_.valid()) RingDoorbell(theirs_.get());
    if (ours_.valid() && thread_.has_value()) shutdown(ours_.get(), SHUT_RDWR);
    thread_.reset();
  }

 private:
  RingMemory memory_;
  const RingRegion region_;
  UniqueFd ours_;
  UniqueFd theirs_;
  RingConsumer<SubmissionEntry> works_;
  RingProducer<CompletionEntry> completions_;
  uint64_t serial_ = 0;
  std::atomic<bool> stopping_ = false;
  std::optional<Thread> thread_;
};

}  // namespace tutti
