#include "daemon/core/process.h"

#include <cstdio>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace tutti {

ProcessState ProcProcessProbe::StateOf(uint32_t pid) const {
  if (pid == 0) return ProcessState::kUnknown;
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string line;
  if (!std::getline(file, line)) return ProcessState::kGone;
  // "pid (name) state ...", where the name may hold anything, parentheses included.
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos || name_end + 2 >= line.size()) return ProcessState::kUnknown;
  switch (line[name_end + 2]) {
    case 'T':
    case 't':
      return ProcessState::kStopped;
    case 'Z':
    case 'X':
      return ProcessState::kGone;
    default:
      return ProcessState::kRunning;
  }
}

}  // namespace tutti
