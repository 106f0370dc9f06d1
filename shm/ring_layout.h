// The ring lane's shared memory, as an ABI: two processes, perhaps of different builds and
// languages, read and write it. Little-endian x86-64; every field has an explicit width and place,
// and no field is written by both sides.
//
//     0x0000  RingHeader     what the region is: the client writes it before it names the region
//     0x0040  u64  submission tail      client writes    works submitted so far
//     0x0080  u64  submission head      daemon writes    works taken so far
//     0x00c0  u64  completion tail      daemon writes    completions published so far
//     0x0100  u64  completion head      client writes    completions taken so far
//     0x0140  u32  daemon sleeps        daemon writes    1: ring its doorbell
//     0x0180  u32  client sleeps        client writes    1: ring its doorbell
//     0x1000  SubmissionEntry[entries]
//     ......  CompletionEntry[entries]
//     ......  failure slots, kRingFailureSlots of kRingFailureBytes each
//
// A queue has one producer and one consumer, and its indexes only grow: entry i lies at i modulo
// `entries`. The producer writes entry `tail`, then tail + 1 (release); the consumer reads tail
// (acquire), copies the entry, then writes head + 1 (release). There is no state but these two
// numbers:
//
//     head == tail             empty
//     tail - head == entries   full: the producer waits for the consumer
//     tail - head >  entries   the other side broke the protocol
//
// Who is about to sleep writes 1 into its own flag, passes a full fence, looks at the tail once
// more, and only then waits for its end of the doorbell (a pair of stream sockets: any byte is a
// ring, the hang-up is the end of the other side). Who publishes writes its tail, passes a full
// fence, and rings if the other's flag is 1. Only the sleeper clears its flag. (Without the fences
// both may look too early, and the sleeper sleeps for ever: x86 lets a load overtake a store.)
//
// The client may have at most `entries` works in flight, so the completion queue always has room.
// Failures may have to wait for a slot: a client that has taken a completion with a failure passes
// a full fence and rings if the daemon sleeps, as if it had submitted.
//
// The region is part of an arena, so the client's own memory pays for it, and it is sealed and
// mapped as arenas are. The daemon trusts nothing in it: it reads an index once, and copies an
// entry before it looks at it.
//
// Works and completions mean what they mean on the gRPC lane (tutti/v1/client.proto), and have the
// same numbers. A completion that has been taken has been acknowledged.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace tutti {

inline constexpr uint64_t kRingMagic = 0x31474e4952545554;  // "TUTRING1"

struct RingHeader {
  uint64_t magic = kRingMagic;
  uint32_t entries = 0;  // a power of two, 2 to kRingEntriesMax
  uint32_t submission_bytes = 0;
  uint32_t completion_bytes = 0;
  uint32_t failure_slots = 0;
  uint32_t failure_bytes = 0;
  uint32_t reserved = 0;
};

// More than a session may have in flight is never of use: by default that is a quarter of this.
inline constexpr uint32_t kRingEntriesMax = 4096;
inline constexpr uint32_t kRingEntries = 1024;

inline constexpr size_t kRingSubmissionTail = 0x0040;
inline constexpr size_t kRingSubmissionHead = 0x0080;
inline constexpr size_t kRingCompletionTail = 0x00c0;
inline constexpr size_t kRingCompletionHead = 0x0100;
inline constexpr size_t kRingDaemonSleeps = 0x0140;
inline constexpr size_t kRingClientSleeps = 0x0180;
inline constexpr size_t kRingEntriesBegin = 0x1000;

// Failures are long, and many works fail of one: completions refer to slots. A slot is used again
// when the completion that named it last has been taken.
inline constexpr uint32_t kRingFailureSlots = 16;
inline constexpr uint32_t kRingFailureBytes = 4096;

// A range of an arena of the session, in bytes.
struct RingSpan {
  uint64_t arena = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
};

// tutti.v1.Work, which says what the fields mean.
struct SubmissionEntry {
  uint64_t number = 0;
  uint64_t membership = 0;
  uint64_t timeout_ms = 0;
  uint32_t root = 0;
  uint8_t kind = 0;
  uint8_t dtype = 0;
  uint8_t op = 0;
  uint8_t reserved = 0;
  uint32_t inputs = 0;   // how many spans
  uint32_t outputs = 0;  // how many spans
  // At most one input and one output: these spans. More: spans[0] is where the table of all of them
  // lies in an arena, inputs first, as RingSpans.
  RingSpan spans[2];
  uint8_t reserved_end[40] = {};
};

// tutti.v1.Completion.
struct CompletionEntry {
  uint64_t serial = 0;
  uint64_t number = 0;
  // 0: success. Else slot `failure - 1` holds a serialised tutti.v1.Failure of so many bytes, until
  // the completion has been taken.
  uint32_t failure = 0;
  uint32_t failure_bytes = 0;
  uint64_t reserved = 0;
};

static_assert(sizeof(RingHeader) <= kRingSubmissionTail);
static_assert(sizeof(SubmissionEntry) == 128 && sizeof(CompletionEntry) == 32);
static_assert(std::is_trivially_copyable_v<SubmissionEntry> &&
              std::is_trivially_copyable_v<CompletionEntry>);

// Bytes of a region for that many entries.
constexpr size_t RingBytes(uint32_t entries) {
  return kRingEntriesBegin + size_t{entries} * (sizeof(SubmissionEntry) + sizeof(CompletionEntry)) +
         size_t{kRingFailureSlots} * kRingFailureBytes;
}

}  // namespace tutti
