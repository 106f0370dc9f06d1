// tuttid: reads its settings, takes the socket directory, serves until it is told to end.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/version.h"
#include "daemon/config/config.h"
#include "daemon/daemon.h"
#include "daemon/transport/grpc_server.h"
#include "daemon/transport/socket_directory.h"
#include "proto/grpc_library.h"

namespace {

// Exit status; 0 is a clean end.
constexpr int kFailed = 1;
constexpr int kWrongUsage = 2;

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(std::strerror(errno));
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::map<std::string, std::string> Environment() {
  std::map<std::string, std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const size_t equals = text.find('=');
    if (equals != std::string::npos) variables[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return variables;
}

int Fail(int status, const absl::Status& error) {
  std::fprintf(stderr, "tuttid: %s\n", std::string(error.message()).c_str());
  return status;
}

int Print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  return std::fflush(stdout) == 0 ? 0 : kFailed;
}

int Serve(const tutti::v1::DaemonConfig& config) {
  tutti::SetUpLog(config.log_level());
  tutti::SetUpGrpcLog();
  tutti::KeepGrpcInitialized();  // before credentials are made, which is before any server
  tutti::RaiseFileLimit();
  auto directory = tutti::SocketDirectory::Open(config.socket_dir());
  if (!directory.ok()) return Fail(kWrongUsage, directory.status());
  auto daemon = tutti::Daemon::Start(config, std::move(*directory));
  if (!daemon.ok()) return Fail(kFailed, daemon.status());
  (*daemon)->Run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  tutti::BlockSignals();
  const auto invocation = tutti::ReadInvocation({.arguments = {argv + 1, argv + argc},
                                                 .environment = Environment(),
                                                 .machine = tutti::ReadMachine(),
                                                 .read_file = &ReadFile});
  if (!invocation.ok()) return Fail(kWrongUsage, invocation.status());
  switch (invocation->command) {
    case tutti::Command::kShowHelp:
      return Print(tutti::HelpText());
    case tutti::Command::kShowVersion:
      return Print(
          absl::StrCat("tuttid ", tutti::kVersion, ", protocol ", tutti::kProtocolVersion, "\n"));
    case tutti::Command::kPrintConfig:
      return Print(tutti::PrintConfig(*invocation));
    case tutti::Command::kCheckConfig:
      return Print("the settings are right\n");
    case tutti::Command::kRun:
      return Serve(invocation->config);
  }
}
