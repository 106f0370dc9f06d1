#include "daemon/transport/short_failure.h"

#include "base/check.h"
#include "proto/convert.h"

namespace tutti {
namespace {

// Beside the message there are only the names of the group and the like.
constexpr size_t kMessageBytesMax = 1024;

}  // namespace

v1::Failure ToShortProto(const Failure& failure, size_t bytes_max) {
  TUTTI_CHECK(bytes_max >= 2 * kMessageBytesMax);
  v1::Failure proto = ToProto(failure);
  if (proto.ByteSizeLong() <= bytes_max) return proto;
  proto.clear_culprits();
  proto.clear_missing();
  if (proto.message().size() > kMessageBytesMax) {
    // Not in the middle of a character.
    size_t end = kMessageBytesMax;
    while (end > 0 && (static_cast<unsigned char>(proto.message()[end]) & 0xC0) == 0x80) --end;
    proto.mutable_message()->resize(end);
  }
  return proto;
}

}  // namespace tutti
