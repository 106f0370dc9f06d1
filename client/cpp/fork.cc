#include "client/cpp/fork.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <mutex>

namespace tutti {
inline namespace client {
namespace {

// Two per client of this process: session socket and doorbell. Far more than anybody opens, and the
// child may not allocate.
constexpr size_t kFdsMax = 2048;

// What the handlers of fork share; never destroyed, since fork may come at any time.
struct Registry {
  std::atomic<uint32_t> fork_count{0};
  std::mutex mutex;
  std::array<int, kFdsMax> fds;  // -1: free
};

Registry& TheRegistry();

void BeforeFork() { TheRegistry().mutex.lock(); }

void AfterForkInParent() { TheRegistry().mutex.unlock(); }

// Only what is safe after fork in a process with threads: no allocation, no foreign lock.
void AfterForkInChild() {
  Registry& registry = TheRegistry();
  registry.fork_count.fetch_add(1, std::memory_order_relaxed);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int& fd : registry.fds) {
    if (fd < 0) continue;
    // Without /dev/null (a bare chroot) the number becomes free, which is still better than a
    // session that outlives its process.
    if (null < 0 || dup3(null, fd, O_CLOEXEC) < 0) close(fd);
    fd = -1;
  }
  if (null >= 0) close(null);
  registry.mutex.unlock();
}

Registry& TheRegistry() {
  static Registry* const registry = [] {
    auto* made = new Registry;
    made->fds.fill(-1);
    return made;
  }();
  static const int installed = pthread_atfork(BeforeFork, AfterForkInParent, AfterForkInChild);
  static_cast<void>(installed);
  return *registry;
}

}  // namespace

uint32_t ForkCount() { return TheRegistry().fork_count.load(std::memory_order_relaxed); }

std::optional<Failure> ForkedSince(uint32_t made_at) {
  if (ForkCount() == made_at) return std::nullopt;
  return Failure{.cause = Cause::kInvalid,
                 .message =
                     "this process was forked from the one that connected to the daemon, and "
                     "a session cannot be shared; call Client::Connect in the child"};
}

bool CloseInChildren(int fd) {
  Registry& registry = TheRegistry();
  const std::lock_guard lock(registry.mutex);
  for (int& slot : registry.fds) {
    if (slot >= 0) continue;
    slot = fd;
    return true;
  }
  return false;
}

void KeepInChildren(int fd) {
  Registry& registry = TheRegistry();
  const std::lock_guard lock(registry.mutex);
  for (int& slot : registry.fds) {
    if (slot == fd) slot = -1;
  }
}

}  // namespace client
}  // namespace tutti
