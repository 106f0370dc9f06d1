// The tool for people: `tutti status`, `tutti group NAME`, ... See docs/operations.md.
#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/time/time.h"
#include "base/socket_paths.h"
#include "base/version.h"
#include "client/cli/certs.h"
#include "client/cli/commands.h"

namespace tutti {
namespace {

using Command = std::function<CommandResult(const CommandOptions&)>;

// "1.5s", "500ms", "2m", or plain seconds.
absl::Duration ParseDuration(const std::string& text) {
  double seconds = 0;
  absl::Duration duration;
  if (absl::SimpleAtod(text, &seconds)) duration = absl::Seconds(seconds);
  if (duration <= absl::ZeroDuration() &&
      (!absl::ParseDuration(text, &duration) || duration <= absl::ZeroDuration())) {
    throw CLI::ValidationError(text, "is no duration such as 500ms, 2s or 1m");
  }
  return std::min(duration, absl::Hours(24 * 365));
}

// What the command line says; filled by CLI11.
struct Arguments {
  std::string socket_dir;
  std::string output = "table";
  std::string timeout = "1s";
  std::string watch;
  bool watching = false;
  bool check = false;
  bool no_color = false;
  std::string group;
  std::string name_space;
  bool cluster = false;
  bool failed_only = false;
  uint32_t limit = 0;
  std::string drain_wait;
  bool drain_waits = false;
  AuthorityOptions authority;
  NodeOptions node;
};

// What asks no daemon.
using LocalCommand = std::function<absl::Status()>;

void AddGlobalOptions(CLI::App* app, Arguments* arguments) {
  app->add_option(
      "--socket_dir,--socket-dir", arguments->socket_dir,
      "directory of the daemon's sockets; default $TUTTI_SOCKET_DIR, else /run/tutti as "
      "root, else $XDG_RUNTIME_DIR/tutti");
  app->add_option("-o,--output", arguments->output, "table or json")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  app->add_option("--timeout", arguments->timeout, "answer within this time, whatever hangs")
      ->capture_default_str();
  app->add_option("-w,--watch", arguments->watch, "draw again every SEC seconds (2)")
      ->expected(0, 1)
      ->type_name("SEC");
  app->add_flag(
      "--check", arguments->check,
      "exit with 1 if a group has failed, something is stalled, or a node is out of reach");
  app->add_flag("--no-color,--no_color", arguments->no_color,
                "no colours (also: NO_COLOR, or not a terminal)");
}

void AddCommands(CLI::App* app, Arguments* arguments, Command* command) {
  const auto add = [&](const std::string& name, const std::string& help, Command run) {
    CLI::App* const sub = app->add_subcommand(name, help)->fallthrough();
    sub->callback([command, run = std::move(run)] { *command = run; });
    return sub;
  };
  CLI::App* const status =
      add("status", "the daemon, its groups, and what is wrong, on one screen",
          [arguments](const CommandOptions& options) {
            return arguments->cluster ? RunClusterStatus(options) : RunStatus(options);
          });
  status->add_flag(
      "--cluster", arguments->cluster,
      "all daemons of the cluster, as this one sees them, and the groups over several");
  add("groups", "all groups", RunGroups);
  CLI::App* const group = add("group", "one group: what each rank is doing, and what waits",
                              [arguments](const CommandOptions& options) {
                                return RunGroup(options, arguments->group, arguments->name_space);
                              });
  group->add_option("NAME", arguments->group)->required();
  group->add_option("--namespace", arguments->name_space, "if the name exists in several");
  add("sessions", "the processes that are attached", RunSessions);
  CLI::App* const ops =
      add("ops", "pending and recent operations", [arguments](const CommandOptions& options) {
        return RunOps(options, arguments->failed_only, arguments->limit, arguments->group);
      });
  ops->add_flag("--failed", arguments->failed_only, "only failed ones");
  ops->add_option("--limit", arguments->limit, "at most this many (100; at most 1000)");
  ops->add_option("--group", arguments->group, "only this group's");
  add("health", "exit with 0 if the daemon serves, 1 if not, 3 if it can't be reached", RunHealth);
  CLI::App* const drain = add("drain", "end the daemon once operations in flight have ended",
                              [arguments](const CommandOptions& options) {
                                std::optional<absl::Duration> wait;
                                if (arguments->drain_waits) {
                                  wait = arguments->drain_wait.empty()
                                             ? absl::Minutes(5)
                                             : ParseDuration(arguments->drain_wait);
                                }
                                return RunDrain(options, wait);
                              });
  drain->add_option("--wait", arguments->drain_wait, "wait for the daemon's end (5m)")
      ->expected(0, 1)
      ->type_name("TIME");
  add("version", "of this tool and of the daemon", RunVersion);
}

void AddCertificateCommands(CLI::App* app, Arguments* arguments, LocalCommand* command) {
  CLI::App* const certs =
      app->add_subcommand("certs", "certificates with which the daemons of a cluster speak")
          ->require_subcommand(1);
  const auto days = [](CLI::App* to, int* value) {
    to->add_option("--days", *value, "how long it is valid")
        ->check(CLI::Range(1, 36500))
        ->capture_default_str();
  };
  CLI::App* const init = certs->add_subcommand("init", "make the authority of a new cluster");
  AuthorityOptions* const authority = &arguments->authority;
  init->add_option("DIR", authority->directory, "keep ca.key in it to yourself")->required();
  init->add_option("--cluster", authority->cluster, "its name")->required();
  days(init, &authority->days);
  init->callback(
      [command, authority] { *command = [authority] { return MakeAuthority(*authority); }; });
  CLI::App* const node = certs->add_subcommand("node", "make the certificate of a node, DIR/NAME");
  NodeOptions* const of_node = &arguments->node;
  node->add_option("DIR", of_node->directory, "of the authority")->required();
  node->add_option("NAME", of_node->name, "the node's; DIR/NAME is its peer_tls_dir")->required();
  node->add_option("--address", of_node->addresses, "IP address or host name; may be repeated");
  days(node, &of_node->days);
  node->callback([command, of_node] { *command = [of_node] { return MakeNode(*of_node); }; });
}

// False if nobody reads any more (`tutti ops | head`): no reason to complain.
bool Print(FILE* stream, const std::string& text) {
  return std::fwrite(text.data(), 1, text.size(), stream) == text.size() &&
         std::fflush(stream) == 0;
}

size_t TerminalWidth() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return std::clamp<size_t>(size.ws_col, 40, 160);
}

// Draws again until Ctrl-C, which ends it with success: that is how watching ends.
int Watch(const Command& command, const CommandOptions& options, absl::Duration period) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  // Before gRPC starts threads, which inherit it.
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  const bool terminal = isatty(STDOUT_FILENO) != 0;
  const timespec wait = absl::ToTimespec(period);
  while (true) {
    const CommandResult result = command(options);
    // Home, draw, clear the rest: without the flicker of clearing first.
    const std::string text = result.out + result.error;
    if (!Print(stdout, terminal ? "\x1b[H\x1b[2J" + text : text + "\n")) return kExitOk;
    if (sigtimedwait(&signals, nullptr, &wait) > 0) return kExitOk;
  }
}

int Run(const Command& command, const Arguments& arguments) {
  const absl::StatusOr<std::string> socket_dir = ResolveSocketDir(arguments.socket_dir);
  if (!socket_dir.ok()) {
    Print(stderr, "tutti: " + std::string(socket_dir.status().message()) + "\n");
    return absl::IsInvalidArgument(socket_dir.status()) ? kExitUsage : kExitUnreachable;
  }
  const char* const no_color = std::getenv("NO_COLOR");
  const bool color = !arguments.no_color && (no_color == nullptr || *no_color == '\0') &&
                     isatty(STDOUT_FILENO) != 0;
  const CommandOptions options{.socket_dir = *socket_dir,
                               .timeout = ParseDuration(arguments.timeout),
                               .json = arguments.output == "json",
                               .check = arguments.check,
                               .style = {.width = TerminalWidth(), .color = color}};
  if (arguments.watching) {
    const absl::Duration period =
        arguments.watch.empty() ? absl::Seconds(2) : ParseDuration(arguments.watch);
    return Watch(command, options, period);
  }
  const CommandResult result = command(options);
  Print(stderr, result.error);
  Print(stdout, result.out);
  return result.exit_code;
}

int RunLocal(const LocalCommand& command) {
  const absl::Status status = command();
  if (status.ok()) return kExitOk;
  Print(stderr, "tutti: " + std::string(status.message()) + "\n");
  return absl::IsInvalidArgument(status) ? kExitUsage : kExitProblem;
}

int Main(int argc, char** argv) {
  // Writing to a closed pipe then fails instead of ending the process.
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app("Looks at a Tutti daemon, and ends it; makes certificates for daemons.", "tutti");
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("tutti ") + kVersion);
  Arguments arguments;
  arguments.authority.now = arguments.node.now = std::time(nullptr);
  Command command;
  LocalCommand local;
  AddGlobalOptions(&app, &arguments);
  AddCommands(&app, &arguments, &command);
  AddCertificateCommands(&app, &arguments, &local);
  try {
    app.parse(argc, argv);
    if (local) return RunLocal(local);
    arguments.watching = app.count("--watch") > 0;
    arguments.drain_waits = app.get_subcommand("drain")->count("--wait") > 0;
    return Run(command, arguments);
  } catch (const CLI::ParseError& error) {
    // CLI11 reports by exceptions; 0 is --help and --version.
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
}

}  // namespace
}  // namespace tutti

int main(int argc, char** argv) { return tutti::Main(argc, argv); }
