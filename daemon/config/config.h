// What tuttid was asked to do, and with which settings.
//
//   default < --config FILE (DaemonConfig as text) < environment TUTTI_<SETTING> < flag --<setting>
//
// Everything comes from the fields of tutti.v1.DaemonConfig and their annotations. Pure: what it
// reads is handed in.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/config/machine.h"
#include "daemon/core/limits.h"
#include "tutti/v1/config.pb.h"

namespace tutti {

enum class Command { kRun, kCheckConfig, kPrintConfig, kShowVersion, kShowHelp };

struct ConfigSources {
  // Without the program's name.
  std::vector<std::string> arguments;
  // Empty values count as unset.
  std::map<std::string, std::string> environment;
  Machine machine;
  std::function<absl::StatusOr<std::string>(const std::string& path)> read_file;
};

struct Invocation {
  Command command = Command::kRun;
  // What is in force: settings left to be computed are.
  v1::DaemonConfig config;
  // By setting: where its value is from, for people.
  std::map<std::string, std::string> origins;
};

// Fails with kInvalidArgument; the message has one line for each problem, all of them (but of a
// file that can't be parsed only the first).
//
// A variable TUTTI_* that names no setting is a client's, and is ignored; unless it is within two
// letters of a setting's name, which is a mistake that must not pass unseen.
absl::StatusOr<Invocation> ReadInvocation(const ConfigSources& sources);

// A file for --config, each setting with its origin, kind and reason.
std::string PrintConfig(const Invocation& invocation);
std::string HelpText();

Limits ToLimits(const v1::DaemonConfig& config);

}  // namespace tutti
