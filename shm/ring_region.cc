#include "shm/ring_region.h"

#include <algorithm>
#include <bit>

#include "absl/strings/str_cat.h"

namespace tutti {
namespace {

constexpr uint32_t kEntriesMin = 2;

}  // namespace

RingQueue<SubmissionEntry> RingRegion::submissions() const {
  return {.entries = At<SubmissionEntry>(kRingEntriesBegin),
          .count = entries_,
          .tail = At<uint64_t>(kRingSubmissionTail),
          .head = At<uint64_t>(kRingSubmissionHead),
          .consumer_sleeps = At<uint32_t>(kRingDaemonSleeps)};
}

RingQueue<CompletionEntry> RingRegion::completions() const {
  return {.entries =
              At<CompletionEntry>(kRingEntriesBegin + size_t{entries_} * sizeof(SubmissionEntry)),
          .count = entries_,
          .tail = At<uint64_t>(kRingCompletionTail),
          .head = At<uint64_t>(kRingCompletionHead),
          .consumer_sleeps = At<uint32_t>(kRingClientSleeps)};
}

std::byte* RingRegion::failure_slot(uint32_t slot) const {
  const size_t queues = size_t{entries_} * (sizeof(SubmissionEntry) + sizeof(CompletionEntry));
  return data_ + kRingEntriesBegin + queues + size_t{slot} * kRingFailureBytes;
}

RingHeader MakeRingHeader(uint32_t entries) {
  return {.entries = entries,
          .submission_bytes = sizeof(SubmissionEntry),
          .completion_bytes = sizeof(CompletionEntry),
          .failure_slots = kRingFailureSlots,
          .failure_bytes = kRingFailureBytes};
}

absl::Status CheckRingHeader(const RingHeader& header) {
  if (header.magic != kRingMagic) {
    return absl::InvalidArgumentError("the region does not begin with the header of a ring");
  }
  if (header.entries < kEntriesMin || header.entries > kRingEntriesMax ||
      !std::has_single_bit(header.entries)) {
    return absl::InvalidArgumentError(absl::StrCat("a ring of ", header.entries,
                                                   " entries; it has a power of two from ",
                                                   kEntriesMin, " to ", kRingEntriesMax));
  }
  const RingHeader ours = MakeRingHeader(header.entries);
  if (header.submission_bytes != ours.submission_bytes ||
      header.completion_bytes != ours.completion_bytes ||
      header.failure_slots != ours.failure_slots || header.failure_bytes != ours.failure_bytes) {
    return absl::InvalidArgumentError("a ring of another layout: install versions that fit");
  }
  return absl::OkStatus();
}

uint32_t RingEntriesFor(uint64_t works_in_flight) {
  const uint64_t bounded =
      std::clamp<uint64_t>(works_in_flight, kEntriesMin, uint64_t{kRingEntriesMax});
  return static_cast<uint32_t>(std::bit_ceil(bounded));
}

}  // namespace tutti
