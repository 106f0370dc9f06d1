#include "daemon/config/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tutti {
namespace {

std::optional<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// Nothing for "max" and for -1, which mean no limit.
std::optional<uint64_t> ToNumber(const std::string& text) {
  uint64_t number = 0;
  if (!absl::SimpleAtoi(text, &number)) return std::nullopt;
  return number;
}

// Where a controller keeps the files of our cgroup: "" is that of version 2.
std::vector<std::string> FoldersOf(const std::string& controller, const std::string& root) {
  const std::string mount = absl::StrCat(root, "/sys/fs/cgroup");
  std::vector<std::string> bases = {absl::StrCat(mount, "/", controller)};
  if (controller.empty()) bases = {mount, absl::StrCat(mount, "/unified")};
  std::string path;
  for (const std::string& line : std::vector<std::string>(
           absl::StrSplit(ReadFile(absl::StrCat(root, "/proc/self/cgroup")).value_or(""), '\n'))) {
    // "4:memory:/a/b", "1:cpu,cpuacct:/a/b", "0::/a/b"
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const std::vector<std::string> controllers = absl::StrSplit(parts[1], ',');
    if (std::find(controllers.begin(), controllers.end(), controller) == controllers.end()) {
      continue;
    }
    path = parts[2];
  }
  // A limit holds for all below it. In a container the path may be that of the host, and what is
  // mounted our own folder: then only the last step finds a file.
  std::vector<std::string> folders;
  while (path.size() > 1) {
    for (const std::string& base : bases) folders.push_back(absl::StrCat(base, path));
    path.resize(path.rfind('/'));
  }
  folders.insert(folders.end(), bases.begin(), bases.end());
  return folders;
}

}  // namespace

uint64_t ReadMemoryBytes(const std::string& root) {
  uint64_t bytes = 0;
  for (const std::string& line : std::vector<std::string>(
           absl::StrSplit(ReadFile(absl::StrCat(root, "/proc/meminfo")).value_or(""), '\n'))) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.size() >= 2 && words[0] == "MemTotal:") {
      bytes = ToNumber(words[1]).value_or(0) << 10;
    }
  }
  const auto limit = [&](const std::string& controller, const char* file) {
    for (const std::string& folder : FoldersOf(controller, root)) {
      const auto text = ReadFile(absl::StrCat(folder, "/", file));
      const auto number = text.has_value() ? ToNumber(*text) : std::nullopt;
      if (number.has_value()) bytes = std::min(bytes, *number);
    }
  };
  limit("memory", "memory.limit_in_bytes");
  limit("", "memory.max");
  return bytes;
}

uint32_t ReadProcessorQuota(uint32_t available, const std::string& root) {
  uint64_t processors = available;
  const auto apply = [&](std::optional<uint64_t> quota, std::optional<uint64_t> period) {
    if (!quota.has_value() || !period.has_value() || *period == 0) return;
    processors = std::min(processors, (*quota + *period - 1) / *period);
  };
  for (const std::string& folder : FoldersOf("cpu", root)) {
    apply(ToNumber(ReadFile(absl::StrCat(folder, "/cpu.cfs_quota_us")).value_or("")),
          ToNumber(ReadFile(absl::StrCat(folder, "/cpu.cfs_period_us")).value_or("")));
  }
  for (const std::string& folder : FoldersOf("", root)) {
    const std::vector<std::string> words =
        absl::StrSplit(ReadFile(absl::StrCat(folder, "/cpu.max")).value_or(""),
                       absl::ByAnyChar(" \n"), absl::SkipEmpty());
    if (words.size() == 2) apply(ToNumber(words[0]), ToNumber(words[1]));
  }
  return static_cast<uint32_t>(std::max<uint64_t>(1, processors));
}

Machine ReadMachine() {
  Machine machine;
  machine.memory_bytes = ReadMemoryBytes();
  cpu_set_t allowed;
  const bool known = sched_getaffinity(0, sizeof(allowed), &allowed) == 0;
  const int64_t available = known ? CPU_COUNT(&allowed) : sysconf(_SC_NPROCESSORS_ONLN);
  machine.processors = ReadProcessorQuota(static_cast<uint32_t>(std::max<int64_t>(1, available)));
  machine.root = geteuid() == 0;
  const char* const runtime_dir = std::getenv("XDG_RUNTIME_DIR");
  machine.runtime_dir = runtime_dir == nullptr ? "" : runtime_dir;
  return machine;
}

}  // namespace tutti
