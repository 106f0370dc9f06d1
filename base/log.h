// Logging: spdlog behind one thin header. One line per event, fields as key=value; what happens per
// operation is logged at debug only. Thread-safe.
//
//   LogInfo("group.ready group={} epoch={} ranks={}", Quoted(name), epoch, world_size);
#pragma once

#include <spdlog/spdlog.h>

#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace tutti {

// Names come from clients: control characters must not forge lines of the log.
inline std::string Quoted(std::string_view text) {
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape({text.data(), text.size()}), "\"");
}

template <typename... Args>
void LogDebug(spdlog::format_string_t<Args...> format, Args&&... args) {
  spdlog::debug(format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogInfo(spdlog::format_string_t<Args...> format, Args&&... args) {
  spdlog::info(format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogWarning(spdlog::format_string_t<Args...> format, Args&&... args) {
  spdlog::warn(format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogError(spdlog::format_string_t<Args...> format, Args&&... args) {
  spdlog::error(format, std::forward<Args>(args)...);
}

// Lines go to stderr with time and level. `level`: debug, info, warn, error; false if it is none.
bool SetUpLog(std::string_view level);

}  // namespace tutti
