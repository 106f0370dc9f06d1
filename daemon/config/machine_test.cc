#include "daemon/config/machine.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace tutti {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kGiB = uint64_t{1} << 30;

// A tree that looks like /proc and /sys.
class FakeRoot {
 public:
  FakeRoot() {
    std::string name = "/tmp/tutti-root-XXXXXX";
    path_ = mkdtemp(name.data());
    Write("/proc/meminfo", "MemTotal:       16777216 kB\nMemFree:        1 kB\n");
  }
  ~FakeRoot() { fs::remove_all(path_); }

  void Write(const std::string& file, const std::string& text) const {
    fs::create_directories(fs::path(path_ + file).parent_path());
    std::ofstream(path_ + file) << text;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST_CASE("without cgroups it is the machine's memory, and all processors") {
  const FakeRoot root;
  CHECK(ReadMemoryBytes(root.path()) == 16 * kGiB);
  CHECK(ReadProcessorQuota(6, root.path()) == 6);
  CHECK(ReadMemoryBytes("/nowhere") == 0);
}

TEST_CASE("version 2: the smallest limit on the way up counts") {
  const FakeRoot root;
  root.Write("/proc/self/cgroup", "0::/a/b\n");
  root.Write("/sys/fs/cgroup/a/b/memory.max", "max\n");
  root.Write("/sys/fs/cgroup/a/memory.max", "4294967296\n");
  root.Write("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  root.Write("/sys/fs/cgroup/a/cpu.max", "250000 100000\n");
  CHECK(ReadMemoryBytes(root.path()) == 4 * kGiB);
  CHECK(ReadProcessorQuota(8, root.path()) == 3);
  CHECK(ReadProcessorQuota(2, root.path()) == 2);
}

TEST_CASE("version 2 in a container: its own folder is the root") {
  const FakeRoot root;
  root.Write("/proc/self/cgroup", "0::/\n");
  root.Write("/sys/fs/cgroup/memory.max", "268435456\n");
  root.Write("/sys/fs/cgroup/cpu.max", "50000 100000\n");
  CHECK(ReadMemoryBytes(root.path()) == kGiB / 4);
  CHECK(ReadProcessorQuota(8, root.path()) == 1);
}

TEST_CASE("version 1: each controller has its own tree; no limit is a huge number, or -1") {
  const FakeRoot root;
  root.Write("/proc/self/cgroup", "4:memory:/job\n2:cpu,cpuacct:/job\n1:name=systemd:/x\n0::/\n");
  root.Write("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "2147483648\n");
  root.Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  root.Write("/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "400000\n");
  root.Write("/sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  root.Write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  root.Write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  CHECK(ReadMemoryBytes(root.path()) == 2 * kGiB);
  CHECK(ReadProcessorQuota(8, root.path()) == 4);
}

TEST_CASE("version 1 in a container: the path is the host's, the folder our own") {
  const FakeRoot root;
  root.Write("/proc/self/cgroup", "4:memory:/docker/0123\n");
  root.Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
  CHECK(ReadMemoryBytes(root.path()) == kGiB);
}

TEST_CASE("this machine has memory and a processor") {
  const Machine machine = ReadMachine();
  CHECK(machine.memory_bytes > 0);
  CHECK(machine.processors >= 1);
  CHECK(machine.root == (geteuid() == 0));
}

}  // namespace
}  // namespace tutti
