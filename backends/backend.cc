#include "backends/backend.h"

namespace tutti {

size_t BytesTouched(const Participant& participant) {
  size_t bytes = 0;
  for (const Buffer& input : participant.inputs) bytes += input.size_bytes;
  for (const Buffer& output : participant.outputs) bytes += output.size_bytes;
  return bytes;
}

size_t BytesTouched(const Collective& collective) {
  size_t bytes = 0;
  for (const Participant& participant : collective.participants) {
    bytes += BytesTouched(participant);
  }
  return bytes;
}

}  // namespace tutti
