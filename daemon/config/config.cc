#include "daemon/config/config.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/socket_paths.h"
#include "base/version.h"
#include "daemon/config/settings.h"

namespace tutti {
namespace {

constexpr char kEnvironmentPrefix[] = "TUTTI_";

// What is worth a hand-over to the workers: the more of them there are, the more they gain.
constexpr uint64_t kInlineBytesOfAllWorkers = 16 << 20;

constexpr std::array kLogLevels = {"debug", "info", "warn", "error"};

// Remembers the first error of a text file.
class FirstError final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, int column, const std::string& message) override {
    if (text_.empty()) text_ = absl::StrCat(line + 1, ":", column + 1, ": ", message);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string DidYouMean(const std::string& name, const char* prefix) {
  const SettingField* const nearest = NearestSetting(name);
  return nearest == nullptr ? "" : absl::StrCat("; did you mean ", prefix, nearest->name(), "?");
}

// Collects values from the four sources, and problems from everywhere.
class Reader {
 public:
  explicit Reader(const ConfigSources& sources) : sources_(sources) {}

  absl::StatusOr<Invocation> Read() {
    ReadDefaults();
    ReadArguments();
    // Help is for those whose settings are wrong.
    const Command command = invocation_.command;
    if (command == Command::kShowHelp || command == Command::kShowVersion)
      return std::move(invocation_);
    if (config_file_.has_value()) ReadConfigFile(*config_file_);
    ReadEnvironment();
    for (const auto& [field, text] : flags_) Set(*field, text, "flag");
    CheckBoundsOfAll();
    Compute();
    CheckTogether();
    if (problems_.empty()) return std::move(invocation_);
    return absl::InvalidArgumentError(absl::StrJoin(problems_, "\n"));
  }

 private:
  void ReadDefaults() {
    for (const SettingField* field : SettingFields()) {
      const std::string& text = AnnotationOf(*field).default_();
      TUTTI_CHECK(SetFromText(*field, text, &config()).ok());
      origins()[field->name()] = "default";
    }
  }

  void ReadArguments() {
    for (size_t i = 0; i < sources_.arguments.size(); ++i) {
      const std::string& argument = sources_.arguments[i];
      if (argument.size() < 3 || argument.compare(0, 2, "--") != 0) {
        Problem(absl::StrCat("'", argument, "' is no flag; see --help"));
        continue;
      }
      const size_t equals = argument.find('=');
      const std::string name = argument.substr(2, equals - 2);
      if (equals == std::string::npos && SetCommand(name)) continue;
      std::optional<std::string> value;
      const SettingField* const field = FindSetting(name);
      // One that is on or off is turned on by its name alone.
      const bool on_or_off = field != nullptr && field->cpp_type() == SettingField::CPPTYPE_BOOL;
      const bool takes_value = name == "config" || (field != nullptr && !on_or_off);
      if (on_or_off) value = "true";
      if (equals != std::string::npos) {
        value = argument.substr(equals + 1);
      } else if (takes_value && i + 1 < sources_.arguments.size()) {
        value = sources_.arguments[++i];
      }
      ReadFlag(name, value);
    }
  }

  bool SetCommand(const std::string& name) {
    static const std::map<std::string, Command> kCommands = {
        {"check-config", Command::kCheckConfig},
        {"print-config", Command::kPrintConfig},
        {"version", Command::kShowVersion},
        {"help", Command::kShowHelp}};
    const auto found = kCommands.find(name);
    if (found == kCommands.end()) return false;
    invocation_.command = found->second;
    return true;
  }

  void ReadFlag(const std::string& name, const std::optional<std::string>& value) {
    const SettingField* const field = FindSetting(name);
    if (field == nullptr && name != "config") {
      return Problem(
          absl::StrCat("--", name, " is no flag", DidYouMean(name, "--"), "; see --help"));
    }
    if (!value.has_value()) return Problem(absl::StrCat("--", name, " needs a value"));
    if (field == nullptr) {
      config_file_ = *value;
    } else {
      flags_.emplace_back(field, *value);
    }
  }

  void ReadConfigFile(const std::string& path) {
    const absl::StatusOr<std::string> text = sources_.read_file(path);
    if (!text.ok()) return Problem(absl::StrCat("--config ", path, ": ", text.status().message()));
    v1::DaemonConfig file;
    FirstError error;
    google::protobuf::TextFormat::ParseInfoTree places;
    google::protobuf::TextFormat::Parser parser;
    parser.RecordErrorsTo(&error);
    parser.WriteLocationsTo(&places);
    if (!parser.ParseFromString(*text, &file)) {
      return Problem(absl::StrCat(path, ":", error.text()));
    }
    for (const SettingField* field : SettingFields()) {
      // Its place, and not its value, tells that it is there: zero is a value.
      const auto place = places.GetLocation(field, -1);
      if (place.line < 0) continue;
      CopyField(*field, file);
      origins()[field->name()] = absl::StrCat("file ", path, ":", place.line + 1);
    }
  }

  void CopyField(const SettingField& field, const v1::DaemonConfig& from) {
    const google::protobuf::Reflection& reflection = *from.GetReflection();
    if (field.cpp_type() == SettingField::CPPTYPE_STRING) {
      reflection.SetString(&config(), &field, reflection.GetString(from, &field));
    } else if (field.cpp_type() == SettingField::CPPTYPE_BOOL) {
      reflection.SetBool(&config(), &field, reflection.GetBool(from, &field));
    } else {
      reflection.SetUInt64(&config(), &field, reflection.GetUInt64(from, &field));
    }
  }

  void ReadEnvironment() {
    const size_t prefix_size = sizeof(kEnvironmentPrefix) - 1;
    for (const auto& [variable, text] : sources_.environment) {
      if (text.empty() || variable.compare(0, prefix_size, kEnvironmentPrefix) != 0) continue;
      const std::string name = absl::AsciiStrToLower(variable.substr(prefix_size));
      if (const SettingField* const field = FindSetting(name)) {
        Set(*field, text, absl::StrCat("environment ", variable));
      } else if (const SettingField* const nearest = NearestSetting(name)) {
        Problem(absl::StrCat(variable, " in the environment is no setting; did you mean ",
                             kEnvironmentPrefix, absl::AsciiStrToUpper(nearest->name()), "?"));
      }
    }
  }

  void Set(const SettingField& field, const std::string& text, const std::string& origin) {
    const absl::Status status = SetFromText(field, text, &config());
    if (!status.ok()) {
      return Problem(absl::StrCat(field.name(), " (", origin, "): ", status.message()));
    }
    origins()[field.name()] = origin;
  }

  void CheckBoundsOfAll() {
    for (const SettingField* field : SettingFields()) {
      const absl::Status status = CheckBounds(*field, config());
      if (!status.ok()) ProblemOf(field->name(), std::string(status.message()));
    }
  }

  // Settings that are zero or empty by default because they depend on the machine.
  void Compute() {
    const Machine& machine = sources_.machine;
    if (config().socket_dir().empty()) ComputeSocketDir();
    if (config().arena_bytes_max() == 0) {
      config().set_arena_bytes_max(machine.memory_bytes / 4 * 3 / kArenaAlignmentBytes *
                                   kArenaAlignmentBytes);
      Computed("arena_bytes_max",
               absl::StrCat("three quarters of ", machine.memory_bytes >> 20, " MiB of memory"));
      if (config().arena_bytes_max() == 0) {
        ProblemOf("arena_bytes_max", "cannot find out how much memory there is: set it");
      }
    }
    if (config().arena_bytes_per_session_max() == 0) {
      config().set_arena_bytes_per_session_max(config().arena_bytes_max());
      Computed("arena_bytes_per_session_max", "the same as arena_bytes_max");
    }
    if (config().worker_threads() == 0) {
      config().set_worker_threads(std::clamp<uint64_t>(machine.processors / 2, 2, 8));
      Computed("worker_threads",
               absl::StrCat("half of ", machine.processors, " processors, 2 to 8"));
    }
    if (config().inline_bytes_max() == 0) {
      const uint64_t workers = config().worker_threads();
      config().set_inline_bytes_max(std::max<uint64_t>(kInlineBytesOfAllWorkers / workers, 1));
      Computed("inline_bytes_max", absl::StrCat("16 MiB divided by ", workers, " workers"));
    }
  }

  void ComputeSocketDir() {
    const Machine& machine = sources_.machine;
    if (machine.root) {
      config().set_socket_dir("/run/tutti");
      return Computed("socket_dir", "running as root");
    }
    if (machine.runtime_dir.empty()) {
      return ProblemOf("socket_dir", "set it, or XDG_RUNTIME_DIR: this is not root");
    }
    config().set_socket_dir(absl::StrCat(machine.runtime_dir, "/tutti"));
    Computed("socket_dir", "$XDG_RUNTIME_DIR");
  }

  void CheckTogether() {
    if (!config().socket_dir().empty()) {
      const absl::StatusOr<std::string> dir = ResolveSocketDir(config().socket_dir());
      if (dir.ok()) config().set_socket_dir(*dir);
      if (!dir.ok()) ProblemOf("socket_dir", std::string(dir.status().message()));
    }
    if (std::find(kLogLevels.begin(), kLogLevels.end(), config().log_level()) == kLogLevels.end()) {
      ProblemOf("log_level", absl::StrCat("'", config().log_level(), "' is none of ",
                                          absl::StrJoin(kLogLevels, ", ")));
    }
    if (config().work_timeout_ms() > config().timeout_max_ms()) {
      ProblemOf("work_timeout_ms", "it is longer than timeout_max_ms");
    }
    if (config().join_timeout_ms() > config().timeout_max_ms()) {
      ProblemOf("join_timeout_ms", "it is longer than timeout_max_ms");
    }
    CheckPeers();
  }

  void CheckPeers() {
    const std::string& address = config().peer_address();
    const std::string& join = config().join();
    if (!config().etcd().empty()) {
      if (address.empty()) ProblemOf("etcd", "others must reach this daemon: set peer_address");
      if (!join.empty()) ProblemOf("etcd", "join is set as well: which of them?");
    }
    if (address.empty() && join.empty()) return;
    const std::string name = join.empty() ? "peer_address" : "join";
    if (!config().insecure_peers() && config().peer_tls_dir().empty()) {
      ProblemOf(name,
                "daemons speak with each other over TLS: make certificates with `tutti certs`, and "
                "set peer_tls_dir; or, in a network where you trust everybody, insecure_peers");
    }
    if (config().insecure_peers() && !config().peer_tls_dir().empty()) {
      ProblemOf("insecure_peers", "peer_tls_dir is set as well: which of them?");
    }
  }

  void Computed(const std::string& name, const std::string& how) {
    origins()[name] = absl::StrCat("computed (", origins()[name], "): ", how);
  }
  void ProblemOf(const std::string& name, const std::string& text) {
    Problem(absl::StrCat(name, " (", origins()[name], "): ", text));
  }
  void Problem(std::string text) { problems_.push_back(std::move(text)); }

  v1::DaemonConfig& config() { return invocation_.config; }
  std::map<std::string, std::string>& origins() { return invocation_.origins; }

  const ConfigSources& sources_;
  Invocation invocation_;
  std::optional<std::string> config_file_;
  std::vector<std::pair<const SettingField*, std::string>> flags_;
  std::vector<std::string> problems_;
};

}  // namespace

absl::StatusOr<Invocation> ReadInvocation(const ConfigSources& sources) {
  return Reader(sources).Read();
}

std::string PrintConfig(const Invocation& invocation) {
  std::string text = absl::StrCat("# The settings of tuttid ", kVersion,
                                  " that are in force. Later wins: default, file, environment, "
                                  "flag.\n");
  for (const SettingField* field : SettingFields()) {
    std::string value;
    google::protobuf::TextFormat::PrintFieldValueToString(invocation.config, field, -1, &value);
    absl::StrAppend(&text, "\n# ", ShowKind(*field), ". ", AnnotationOf(*field).reason(), ".\n# ",
                    ShowValue(*field, invocation.config),
                    ", from: ", invocation.origins.at(field->name()), "\n", field->name(), ": ",
                    value, "\n");
  }
  return text;
}

std::string HelpText() {
  std::string text =
      "tuttid: collective communication for all processes of a node.\n"
      "\n"
      "usage: tuttid [--config FILE] [--<setting> VALUE]...\n"
      "\n"
      "  --config FILE    settings as text, as --print-config writes them\n"
      "  --print-config   print the settings that are in force, and where each is from\n"
      "  --check-config   find out whether tuttid would start with these settings\n"
      "  --version        print the version\n"
      "  --help           print this\n"
      "\n"
      "Settings, as flags or in the environment (TUTTI_SOCKET_DIR and so on). Sizes take KiB, "
      "MiB,\n"
      "GiB; times take ms, s, m, h. Exit status: 0 clean, 1 failed while running, 2 wrong usage "
      "or\n"
      "settings, or another tuttid is running.\n";
  for (const SettingField* field : SettingFields()) {
    const v1::Setting& setting = AnnotationOf(*field);
    const std::string& value = setting.default_();
    const std::string shown = value == "0"    ? "computed"
                              : value.empty() ? "default empty"
                                              : absl::StrCat("default ", value);
    absl::StrAppend(&text, "\n  --", field->name(), "  (", ShowKind(*field), "; ", shown,
                    ")\n      ", setting.reason(), "\n");
  }
  return text;
}

Limits ToLimits(const v1::DaemonConfig& config) {
  const auto duration = [](uint64_t ms) { return absl::Milliseconds(static_cast<int64_t>(ms)); };
  return {.sessions_max = config.sessions_max(),
          .sessions_per_user_max = config.sessions_per_user_max(),
          .arena_bytes_max = config.arena_bytes_max(),
          .arena_bytes_per_session_max = config.arena_bytes_per_session_max(),
          .arenas_per_session_max = config.arenas_per_session_max(),
          .groups_per_namespace_max = config.groups_per_namespace_max(),
          .world_size_max = config.world_size_max(),
          .works_in_flight_max = config.works_in_flight_max(),
          .inline_bytes_max = config.inline_bytes_max(),
          .recorder_ops_max = config.recorder_ops_max(),
          .send_bytes_max = config.send_bytes_max(),
          .send_bytes_per_session_max = config.send_bytes_per_session_max(),
          .work_timeout = duration(config.work_timeout_ms()),
          .join_timeout = duration(config.join_timeout_ms()),
          .timeout_max = duration(config.timeout_max_ms()),
          .stall_warning = duration(config.stall_warning_ms())};
}

}  // namespace tutti
