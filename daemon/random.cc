#include "daemon/random.h"

#include <sys/random.h>

#include <cerrno>

#include "base/check.h"

namespace tutti {

void FillRandom(void* bytes, size_t size) {
  // Up to 256 bytes come whole, or not at all before the kernel has gathered entropy.
  TUTTI_CHECK(size <= 256);
  ssize_t filled = 0;
  do {
    filled = getrandom(bytes, size, 0);
  } while (filled < 0 && errno == EINTR);
  TUTTI_CHECK(filled == static_cast<ssize_t>(size));
}

std::string RandomBytes(size_t size) {
  std::string bytes(size, '\0');
  FillRandom(bytes.data(), bytes.size());
  return bytes;
}

}  // namespace tutti
