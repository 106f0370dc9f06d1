#include "base/check.h"

#include <cstdlib>

#include "base/log.h"

namespace tutti {

void CheckFailed(const char* condition, const char* file, int line) {
  spdlog::critical("check failed: {} ({}:{})", condition, file, line);
  spdlog::shutdown();
  std::abort();
}

}  // namespace tutti
