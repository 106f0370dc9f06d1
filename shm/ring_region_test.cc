#include "shm/ring_region.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <vector>

namespace tutti {
namespace {

struct alignas(4096) Page {
  std::byte bytes[4096];
};

TEST_CASE("the parts of a region lie where the layout says, and none overlaps another") {
  constexpr uint32_t kEntries = 4;
  std::vector<Page> pages(RingBytes(kEntries) / sizeof(Page) + 1);
  std::byte* const data = pages[0].bytes;
  const RingRegion region(data, kEntries);
  const auto offset = [&](const void* part) { return static_cast<const std::byte*>(part) - data; };
  const RingQueue<SubmissionEntry> works = region.submissions();
  const RingQueue<CompletionEntry> completions = region.completions();
  CHECK(offset(works.tail) == 0x40);
  CHECK(offset(works.head) == 0x80);
  CHECK(offset(completions.tail) == 0xc0);
  CHECK(offset(completions.head) == 0x100);
  CHECK(offset(works.consumer_sleeps) == 0x140);
  CHECK(offset(completions.consumer_sleeps) == 0x180);
  CHECK(offset(works.entries) == 0x1000);
  CHECK(offset(completions.entries) == 0x1000 + 4 * 128);
  CHECK(offset(region.failure_slot(0)) == 0x1000 + 4 * 128 + 4 * 32);
  CHECK(offset(region.failure_slot(kRingFailureSlots - 1)) + kRingFailureBytes ==
        RingBytes(kEntries));
}

TEST_CASE("a header is accepted if this build can read the region") {
  for (const uint32_t entries : {2U, 64U, kRingEntriesMax}) {
    CHECK(CheckRingHeader(MakeRingHeader(entries)).ok());
  }
  for (const uint32_t entries : {0U, 1U, 3U, 1000U, 2 * kRingEntriesMax, 1U << 31}) {
    CHECK_FALSE(CheckRingHeader(MakeRingHeader(entries)).ok());
  }
  const auto refused = [](auto change) {
    RingHeader header = MakeRingHeader(64);
    change(&header);
    return std::string(CheckRingHeader(header).message());
  };
  CHECK(refused([](RingHeader* header) { header->magic = 0; }) ==
        "the region does not begin with the header of a ring");
  const std::string other = "a ring of another layout: install versions that fit";
  CHECK(refused([](RingHeader* header) { ++header->submission_bytes; }) == other);
  CHECK(refused([](RingHeader* header) { ++header->completion_bytes; }) == other);
  CHECK(refused([](RingHeader* header) { ++header->failure_slots; }) == other);
  CHECK(refused([](RingHeader* header) { ++header->failure_bytes; }) == other);
}

TEST_CASE("a ring has room for all works that may be in flight, within bounds") {
  CHECK(RingEntriesFor(0) == 2);
  CHECK(RingEntriesFor(2) == 2);
  CHECK(RingEntriesFor(3) == 4);
  CHECK(RingEntriesFor(1000) == 1024);
  CHECK(RingEntriesFor(1024) == 1024);
  CHECK(RingEntriesFor(uint64_t{1} << 40) == kRingEntriesMax);
}

}  // namespace
}  // namespace tutti
