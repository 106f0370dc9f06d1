#include "daemon/config/config.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

namespace tutti {
namespace {

using Strings = std::vector<std::string>;

struct Sources {
  Sources() {
    sources.machine = {.memory_bytes = uint64_t{8} << 30,
                       .processors = 6,
                       .root = true,
                       .runtime_dir = "/run/user/7"};
    sources.read_file = [this](const std::string& path) -> absl::StatusOr<std::string> {
      const auto found = files.find(path);
      if (found == files.end()) return absl::NotFoundError("no such file");
      return found->second;
    };
  }

  Invocation Read() {
    const auto invocation = ReadInvocation(sources);
    INFO(std::string(invocation.status().message()));
    REQUIRE(invocation.ok());
    return *invocation;
  }
  // One problem per line.
  std::string Problems() {
    const auto invocation = ReadInvocation(sources);
    REQUIRE(absl::IsInvalidArgument(invocation.status()));
    return std::string(invocation.status().message());
  }

  ConfigSources sources;
  std::map<std::string, std::string> files;
};

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("without anything, defaults hold, and what depends on the machine is computed") {
  Sources given;
  const Invocation read = given.Read();
  CHECK(read.command == Command::kRun);
  CHECK(read.config.socket_dir() == "/run/tutti");
  CHECK(read.config.log_level() == "info");
  CHECK(read.config.work_timeout_ms() == 300'000);
  CHECK(read.config.arena_bytes_max() == uint64_t{6} << 30);
  CHECK(read.config.arena_bytes_per_session_max() == uint64_t{6} << 30);
  CHECK(read.config.worker_threads() == 3);
  CHECK(read.config.inline_bytes_max() == (16 << 20) / 3);
  CHECK(read.origins.at("log_level") == "default");
  CHECK(read.origins.at("worker_threads") == "computed (default): half of 6 processors, 2 to 8");
}

TEST_CASE("who is not root meets in the runtime directory") {
  Sources given;
  given.sources.machine.root = false;
  CHECK(given.Read().config.socket_dir() == "/run/user/7/tutti");
  given.sources.machine.runtime_dir.clear();
  CHECK(given.Problems() == "socket_dir (default): set it, or XDG_RUNTIME_DIR: this is not root");
}

TEST_CASE("worker threads are two at least and eight at most") {
  Sources given;
  given.sources.machine.processors = 1;
  CHECK(given.Read().config.worker_threads() == 2);
  given.sources.machine.processors = 100;
  CHECK(given.Read().config.worker_threads() == 8);
}

TEST_CASE("the fewer workers there are, the more the control loop does itself") {
  Sources given;
  given.sources.arguments = {"--worker_threads=2"};
  CHECK(given.Read().config.inline_bytes_max() == 8 << 20);
  CHECK(given.Read().origins.at("inline_bytes_max") ==
        "computed (default): 16 MiB divided by 2 workers");
  given.sources.arguments = {"--worker_threads=256"};
  CHECK(given.Read().config.inline_bytes_max() == 64 << 10);
  given.sources.arguments = {"--worker_threads=2", "--inline_bytes_max=1KiB"};
  CHECK(given.Read().config.inline_bytes_max() == 1024);
}

TEST_CASE("the order is default, file, environment, flag; the later wins") {
  Sources given;
  given.files["/c"] = "sessions_max: 11\nlog_level: 'warn'\nwork_timeout_ms: 1\n";
  given.sources.arguments = {"--config", "/c"};
  CHECK(given.Read().config.sessions_max() == 11);
  CHECK(given.Read().origins.at("sessions_max") == "file /c:1");
  CHECK(given.Read().origins.at("log_level") == "file /c:2");

  given.sources.environment["TUTTI_SESSIONS_MAX"] = "12";
  CHECK(given.Read().config.sessions_max() == 12);
  CHECK(given.Read().origins.at("sessions_max") == "environment TUTTI_SESSIONS_MAX");

  // Wherever it stands.
  given.sources.arguments = {"--sessions_max", "13", "--config=/c"};
  CHECK(given.Read().config.sessions_max() == 13);
  CHECK(given.Read().origins.at("sessions_max") == "flag");
  CHECK(given.Read().config.log_level() == "warn");
  CHECK(given.Read().config.work_timeout_ms() == 1);
}

TEST_CASE("a zero in the file is a value") {
  Sources given;
  given.files["/c"] = "drain_timeout_ms: 0\n";
  given.sources.arguments = {"--config=/c"};
  CHECK(given.Read().config.drain_timeout_ms() == 0);
  CHECK(given.Read().origins.at("drain_timeout_ms") == "file /c:1");
}

TEST_CASE("flags are written both ways, and an empty variable is none") {
  Sources given;
  given.sources.arguments = {"--work_timeout_ms=90s", "--socket_dir", "/a/b/../c/"};
  given.sources.environment = {{"TUTTI_LOG_LEVEL", ""}, {"LOG_LEVEL", "debug"}};
  CHECK(given.Read().config.work_timeout_ms() == 90'000);
  CHECK(given.Read().config.socket_dir() == "/a/c");
  CHECK(given.Read().config.log_level() == "info");
}

TEST_CASE("a file with an unknown field is refused, with the line") {
  Sources given;
  given.sources.arguments = {"--config=/c"};
  given.files["/c"] = "log_level: 'warn'\n\nsesions_max: 3\n";
  CHECK(Contains(given.Problems(), "/c:3:"));
  CHECK(Contains(given.Problems(), "sesions_max"));
  given.files["/c"] = "log_level: 'warn'\nlog_level: 'info'\n";
  CHECK(Contains(given.Problems(), "/c:2:"));
  given.files["/c"] = "sessions_max: -3\n";
  CHECK(Contains(given.Problems(), "/c:1:"));
  given.files.clear();
  CHECK(given.Problems() == "--config /c: no such file");
}

TEST_CASE("values out of bounds are refused wherever they are from, and say where") {
  Sources given;
  given.files["/c"] = "\nsessions_max: 0\n";
  given.sources.arguments = {"--config=/c", "--world_size_max=70000"};
  given.sources.environment["TUTTI_WORK_TIMEOUT_MS"] = "25h";
  const std::string problems = given.Problems();
  CHECK(Contains(problems, "sessions_max (file /c:2): 0 is out of bounds: number, 1 to 65536"));
  CHECK(Contains(problems, "world_size_max (flag): 70000 is out of bounds"));
  CHECK(Contains(problems, "work_timeout_ms (environment TUTTI_WORK_TIMEOUT_MS): 25h is out"));
}

TEST_CASE("all problems are told at once") {
  Sources given;
  given.sources.arguments = {"--sesions_max=1",   "positional", "--nonsense",    "--log_level=loud",
                             "--work_timeout_ms", "5",          "--sessions_max"};
  given.sources.environment = {{"TUTTI_SOCKETDIR", "/x"}, {"TUTTI_DRAIN_TIMEOUT_MS", "soon"}};
  const std::string problems = given.Problems();
  CHECK(Contains(problems, "--sesions_max is no flag; did you mean --sessions_max?"));
  CHECK(Contains(problems, "'positional' is no flag"));
  CHECK(Contains(problems, "--nonsense is no flag; see --help"));
  CHECK(Contains(problems, "log_level (flag): 'loud' is none of debug, info, warn, error"));
  CHECK(Contains(problems, "work_timeout_ms (flag): '5' lacks its unit"));
  CHECK(Contains(problems, "--sessions_max needs a value"));
  CHECK(Contains(problems, "did you mean TUTTI_SOCKET_DIR?"));
  CHECK(Contains(problems, "drain_timeout_ms (environment TUTTI_DRAIN_TIMEOUT_MS): 'soon' is not"));
}

TEST_CASE("variables of clients are not ours") {
  Sources given;
  given.sources.environment = {
      {"TUTTI_NAMESPACE", "job"}, {"TUTTI_LANE", "grpc"}, {"TUTTI_VENV", "/x"}};
  CHECK(given.Read().command == Command::kRun);
}

TEST_CASE("defaults of deadlines fit below their limit") {
  Sources given;
  given.sources.arguments = {"--timeout_max_ms=1m"};
  const std::string problems = given.Problems();
  CHECK(Contains(problems, "work_timeout_ms (default): it is longer than timeout_max_ms"));
  CHECK(Contains(problems, "join_timeout_ms (default): it is longer than timeout_max_ms"));
}

TEST_CASE("what is on or off is turned on by its name alone, or by its value") {
  Sources given;
  const auto insecure = [&](std::vector<std::string> arguments) {
    given.sources.arguments = std::move(arguments);
    return given.Read().config.insecure_peers();
  };
  CHECK_FALSE(insecure({}));
  CHECK(insecure({"--insecure_peers"}));
  CHECK(insecure({"--insecure_peers=true", "--join=a:1"}));
  CHECK_FALSE(insecure({"--insecure_peers=false"}));
  given.files["/c"] = "insecure_peers: true\n";
  CHECK(insecure({"--config=/c"}));
  CHECK_FALSE(insecure({"--config=/c", "--insecure_peers=false"}));
  given.sources.environment = {{"TUTTI_INSECURE_PEERS", "true"}};
  CHECK(insecure({}));
}

TEST_CASE("daemons speak over TLS, or in the open if somebody says so; and not both") {
  Sources given;
  for (const std::string name : {"peer_address", "join"}) {
    const std::string flag = "--" + name + "=10.0.0.7:7411";
    given.sources.arguments = {flag};
    CHECK(Contains(given.Problems(), name + " (flag): daemons speak with each other over TLS: make "
                                            "certificates with `tutti certs`"));
    given.sources.arguments = {flag, "--insecure_peers"};
    CHECK(given.Read().config.insecure_peers());
    given.sources.arguments = {flag, "--peer_tls_dir=/etc/tutti/tls"};
    CHECK(given.Read().config.peer_tls_dir() == "/etc/tutti/tls");
    given.sources.arguments = {flag, "--peer_tls_dir=/etc/tutti/tls", "--insecure_peers"};
    CHECK(Contains(given.Problems(), "insecure_peers (flag): peer_tls_dir is set as well"));
  }
}

TEST_CASE("the seed is elected, or the one that was named") {
  Sources given;
  const std::string etcd = "--etcd=10.0.0.1:2379,10.0.0.2:2379";
  given.sources.arguments = {etcd, "--peer_address=10.0.0.7:7411", "--insecure_peers"};
  CHECK(given.Read().config.etcd() == "10.0.0.1:2379,10.0.0.2:2379");
  CHECK(given.Read().config.etcd_prefix() == "/tutti");
  given.sources.arguments = {etcd, "--insecure_peers"};
  CHECK(Contains(given.Problems(), "etcd (flag): others must reach this daemon: set peer_address"));
  given.sources.arguments = {etcd, "--peer_address=10.0.0.7:7411", "--join=10.0.0.8:7411",
                             "--insecure_peers"};
  CHECK(Contains(given.Problems(), "etcd (flag): join is set as well"));
}

TEST_CASE("a directory whose sockets' paths are too long is refused before anything is made") {
  Sources given;
  given.sources.arguments = {"--socket_dir=/" + std::string(93, 'd')};
  CHECK(given.Read().config.socket_dir().size() == 94);
  given.sources.arguments = {"--socket_dir=/" + std::string(94, 'd')};
  CHECK(Contains(given.Problems(), "socket_dir (flag): "));
  CHECK(Contains(given.Problems(), "too long"));
}

TEST_CASE("what is printed can be read again, and says of each setting where it is from") {
  Sources given;
  given.sources.arguments = {"--print-config", "--log_level=debug", "--socket_dir=/q'\"x"};
  const Invocation first = given.Read();
  CHECK(first.command == Command::kPrintConfig);
  const std::string printed = PrintConfig(first);
  CHECK(Contains(printed, "log_level: \"debug\""));
  CHECK(Contains(printed, "# debug, from: flag"));
  CHECK(Contains(printed, "# time, 1ms to 24h. longer than any healthy step"));
  CHECK(Contains(printed, "# 5m, from: default\nwork_timeout_ms: 300000\n"));

  Sources again;
  again.files["/c"] = printed;
  again.sources.arguments = {"--config=/c"};
  CHECK(again.Read().config.SerializeAsString() == first.config.SerializeAsString());
}

TEST_CASE("help and version are for those whose settings are wrong") {
  Sources given;
  given.sources.environment["TUTTI_LOG_LEVEL"] = "loud";
  given.sources.arguments = {"--help"};
  CHECK(given.Read().command == Command::kShowHelp);
  given.sources.arguments = {"--version"};
  CHECK(given.Read().command == Command::kShowVersion);
  given.sources.arguments = {"--check-config"};
  CHECK(Contains(given.Problems(), "log_level"));
}

TEST_CASE("help names every setting, with kind, default and reason") {
  const std::string help = HelpText();
  CHECK(Contains(help, "--drain_timeout_ms  (time, 0 to 1h; default 20s)\n      below the 30 s"));
  CHECK(Contains(help, "--worker_threads  (number, 0 to 256; computed)"));
  const auto* message = v1::DaemonConfig::descriptor();
  for (int i = 0; i < message->field_count(); ++i) {
    CHECK(Contains(help, "--" + message->field(i)->name() + " "));
  }
}

TEST_CASE("the core gets what was set") {
  Sources given;
  given.sources.arguments = {"--sessions_max=3",      "--arena_bytes_max=1MiB",
                             "--work_timeout_ms=2s",  "--recorder_ops_max=9",
                             "--send_bytes_max=5KiB", "--send_bytes_per_session_max=4KiB"};
  const Limits limits = ToLimits(given.Read().config);
  CHECK(limits.sessions_max == 3);
  CHECK(limits.arena_bytes_max == 1 << 20);
  CHECK(limits.arena_bytes_per_session_max == 1 << 20);
  CHECK(limits.work_timeout == absl::Seconds(2));
  CHECK(limits.recorder_ops_max == 9);
  CHECK(limits.send_bytes_max == 5 << 10);
  CHECK(limits.send_bytes_per_session_max == 4 << 10);
}

}  // namespace
}  // namespace tutti
