#include "client/cpp/ring_setup.h"

#include <chrono>
#include <cstring>
#include <utility>

#include "client/cpp/fork.h"
#include "shm/ring_layout.h"

namespace tutti {
inline namespace client {
namespace {

// Arenas are whole pages.
constexpr size_t kPageBytes = 4096;

// The daemon answers from memory.
constexpr std::chrono::seconds kReplyTimeout(10);

#if defined(__x86_64__)
constexpr bool kSupported = true;
#else
constexpr bool kSupported = false;
#endif

}  // namespace

Result<RingLane::Options> MakeRing(ArenaSource* arenas, SessionSocket* socket,
                                   uint64_t in_flight_max) {
  if (!kSupported) {
    return Failure{.cause = Cause::kUnsupported, .message = "rings are for x86-64 only"};
  }
  if (in_flight_max == 0) in_flight_max = kRingEntries;
  const uint32_t entries = RingEntriesFor(in_flight_max);
  Result<ArenaSource::Arena> arena =
      arenas->Make((RingBytes(entries) + kPageBytes - 1) / kPageBytes * kPageBytes);
  if (!arena.ok()) return arena.failure();
  // A new arena is zero.
  const RingHeader header = MakeRingHeader(entries);
  std::memcpy(arena->mapping.data(), &header, sizeof(header));

  v1::SessionRequest request;
  request.mutable_create_ring()->set_arena(arena->id);
  Result<SessionSocket::Reply> reply = socket->Call(std::move(request), kReplyTimeout);
  if (!reply.ok()) {
    arenas->Release(arena->id);
    return reply.failure();
  }
  if (reply->fds.size() != 1 || reply->message.ring_created().last_received() != 0) {
    arenas->Release(arena->id);
    return Failure{.cause = Cause::kProtocol, .message = "the daemon sent a ring without doorbell"};
  }
  if (!CloseInChildren(reply->fds[0].get())) {
    arenas->Release(arena->id);
    return Failure{.cause = Cause::kLimit, .message = "this process has too many clients already"};
  }
  RingLane::Options options;
  options.region = RingRegion(arena->mapping.data(), entries);
  options.memory = std::move(arena->mapping);
  options.doorbell = std::move(reply->fds[0]);
  options.in_flight_max = in_flight_max;
  options.spin_us = reply->message.ring_created().spin_us();
  return options;
}

}  // namespace client
}  // namespace tutti
