// What this process holds: how tests find leaks.
#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace tutti {

// Open descriptors, with the one that this takes to count them.
inline size_t OpenFds() {
  const std::filesystem::directory_iterator fds("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(fds), end(fds)));
}

// Mappings of arenas.
inline size_t ArenaMappings() {
  std::ifstream maps("/proc/self/maps");
  size_t count = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/memfd:tutti-arena") != std::string::npos) ++count;
  }
  return count;
}

}  // namespace tutti
