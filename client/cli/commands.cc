#include "client/cli/commands.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/version.h"
#include "client/cli/admin.h"
#include "client/cli/problems.h"
#include "client/cli/text.h"

namespace tutti {
namespace {

// Stalled groups that are asked for details; each costs a call.
constexpr size_t kDetailsMax = 4;

// Of the timeout, for everything but the calls: starting, connecting, drawing.
constexpr double kCallsShare = 0.9;

CommandResult Fail(const absl::Status& status) {
  const bool unreachable = absl::IsUnavailable(status) || absl::IsPermissionDenied(status);
  return CommandResult{.error = absl::StrCat("tutti: ", std::string(status.message()), "\n"),
                       .exit_code = unreachable ? kExitUnreachable : kExitProblem};
}

// proto3 JSON with the names of the .proto files, and with zeros, so that readers find every field.
std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  // Fails only for messages with invalid UTF-8, which the parser has refused.
  static_cast<void>(google::protobuf::util::MessageToJsonString(message, &json, options).ok());
  return json;
}

absl::StatusOr<Admin> Connect(const CommandOptions& options) {
  return Admin::Connect(options.socket_dir, options.timeout * kCallsShare);
}

// Connects, makes one call, and shows its reply.
template <typename Call, typename Render>
CommandResult Show(const CommandOptions& options, const Call& call, const Render& render) {
  absl::StatusOr<Admin> admin = Connect(options);
  if (!admin.ok()) return Fail(admin.status());
  const auto reply = call(&*admin);
  if (!reply.ok()) return Fail(reply.status());
  return CommandResult{.out = options.json ? ToJson(*reply) : render(*reply)};
}

// What status and --check know: the daemon, its groups, and more about stalled ones.
struct Overview {
  v1::GetStatusResponse status;
  v1::ListGroupsResponse groups;
  std::vector<v1::GetGroupResponse> details;
};

absl::StatusOr<Overview> Look(const CommandOptions& options) {
  absl::StatusOr<Admin> admin = Connect(options);
  if (!admin.ok()) return admin.status();
  absl::StatusOr<v1::GetStatusResponse> status = admin->GetStatus();
  if (!status.ok()) return status.status();
  absl::StatusOr<v1::ListGroupsResponse> groups = admin->ListGroups();
  if (!groups.ok()) return groups.status();
  Overview overview{*std::move(status), *std::move(groups), {}};
  for (const v1::GroupSummary& group : overview.groups.groups()) {
    if (!IsStalled(group) || overview.details.size() == kDetailsMax) continue;
    // One that is gone meanwhile is no problem.
    auto detail = admin->GetGroup(group.name(), group.namespace_());
    if (detail.ok()) overview.details.push_back(*std::move(detail));
  }
  return overview;
}

// Also takes "namespace/name", which is how the tables show it.
absl::StatusOr<v1::GetGroupResponse> FindGroup(Admin* admin, const std::string& name,
                                               const std::string& name_space) {
  auto group = admin->GetGroup(name, name_space);
  const size_t slash = name.find('/');
  if (!absl::IsNotFound(group.status()) || !name_space.empty() || slash == std::string::npos) {
    return group;
  }
  auto split = admin->GetGroup(name.substr(slash + 1), name.substr(0, slash));
  return split.ok() ? split : group;
}

int ExitCodeOf(const CommandOptions& options, const Overview& overview) {
  const bool problem =
      options.check && !FindProblems(overview.status, overview.groups, overview.details).empty();
  return problem ? kExitProblem : kExitOk;
}

}  // namespace

CommandResult RunStatus(const CommandOptions& options) {
  const absl::StatusOr<Overview> overview = Look(options);
  if (!overview.ok()) return Fail(overview.status());
  return CommandResult{.out = options.json ? ToJson(overview->status)
                                           : RenderStatus(overview->status, overview->groups,
                                                          overview->details, options.style),
                       .exit_code = ExitCodeOf(options, *overview)};
}

CommandResult RunClusterStatus(const CommandOptions& options) {
  absl::StatusOr<Admin> admin = Connect(options);
  if (!admin.ok()) return Fail(admin.status());
  const absl::StatusOr<v1::GetClusterResponse> cluster = admin->GetCluster();
  if (absl::IsUnimplemented(cluster.status())) {
    return Fail(absl::UnimplementedError(
        "the daemon here is too old to look at the cluster; what it knows of itself: tutti "
        "status"));
  }
  if (!cluster.ok()) return Fail(cluster.status());
  const bool problem = options.check && !FindClusterProblems(*cluster).empty();
  return CommandResult{
      .out = options.json ? ToJson(*cluster) : RenderCluster(*cluster, options.style),
      .exit_code = problem ? kExitProblem : kExitOk};
}

CommandResult RunGroups(const CommandOptions& options) {
  const absl::StatusOr<Overview> overview = Look(options);
  if (!overview.ok()) return Fail(overview.status());
  return CommandResult{
      .out = options.json
                 ? ToJson(overview->groups)
                 : absl::StrCat(RenderStaleness(overview->groups.snapshot(), options.style),
                                RenderGroups(overview->groups, 0, options.style)),
      .exit_code = ExitCodeOf(options, *overview)};
}

CommandResult RunGroup(const CommandOptions& options, const std::string& name,
                       const std::string& name_space) {
  v1::GroupSummary summary;
  CommandResult result = Show(
      options, [&](Admin* admin) { return FindGroup(admin, name, name_space); },
      [&](const v1::GetGroupResponse& group) {
        summary = group.summary();
        return RenderGroup(group, options.style);
      });
  const bool problem = summary.state() == v1::GROUP_STATE_FAILED || IsStalled(summary);
  if (result.exit_code == kExitOk && options.check && problem) result.exit_code = kExitProblem;
  return result;
}

CommandResult RunSessions(const CommandOptions& options) {
  return Show(
      options, [](Admin* admin) { return admin->ListSessions(); },
      [&](const auto& sessions) { return RenderSessions(sessions, options.style); });
}

CommandResult RunOps(const CommandOptions& options, bool failed_only, uint32_t limit,
                     const std::string& group) {
  v1::ListOpsRequest request;
  request.set_failed_only(failed_only);
  request.set_limit(limit);
  request.set_group(group);
  return Show(
      options, [&](Admin* admin) { return admin->ListOps(request); },
      [&](const auto& ops) { return RenderOps(ops, options.style); });
}

CommandResult RunHealth(const CommandOptions& options) {
  absl::StatusOr<Admin> admin = Connect(options);
  if (!admin.ok()) return Fail(admin.status());
  const auto health = admin->CheckHealth();
  if (!health.ok()) return Fail(health.status());
  const auto status = admin->GetStatus();
  if (!status.ok()) return Fail(status.status());
  const uint64_t age_ms = status->snapshot().age_ms();
  const bool serving = health->status() == grpc::health::v1::HealthCheckResponse::SERVING;
  const bool healthy = serving && age_ms <= kStaleMs;
  std::string text = "serving\n";
  if (age_ms > kStaleMs) {
    text = absl::StrCat("stuck: the control loop has not answered for ", Age(age_ms), "\n");
  } else if (!serving) {
    text = status->draining() ? "not serving: draining\n" : "not serving\n";
  }
  return CommandResult{.out = options.json ? ToJson(*health) : text,
                       .exit_code = healthy ? kExitOk : kExitProblem};
}

CommandResult RunDrain(const CommandOptions& options, std::optional<absl::Duration> wait) {
  absl::StatusOr<Admin> admin = Connect(options);
  if (!admin.ok()) return Fail(admin.status());
  const auto reply = admin->Drain();
  if (!reply.ok()) return Fail(reply.status());
  if (!wait.has_value()) {
    return CommandResult{.out = options.json ? ToJson(*reply)
                                             : "draining: it refuses new sessions and groups, and "
                                               "ends when operations in flight have\n"};
  }
  if (const absl::Status ended = admin->WaitForEnd(*wait); !ended.ok()) return Fail(ended);
  return CommandResult{.out = options.json ? ToJson(*reply) : "drained: the daemon has ended\n"};
}

CommandResult RunVersion(const CommandOptions& options) {
  CommandResult result;
  absl::StatusOr<Admin> admin = Connect(options);
  absl::StatusOr<v1::GetStatusResponse> status =
      admin.ok() ? admin->GetStatus() : absl::StatusOr<v1::GetStatusResponse>(admin.status());
  if (!status.ok()) result = Fail(status.status());
  const std::string daemon = status.ok() ? Escaped(status->version()) : "";
  if (options.json) {
    result.out = absl::StrCat("{\n \"tool\": \"", kVersion, "\",\n \"daemon\": \"", daemon,
                              "\",\n \"protocol\": ", kProtocolVersion, "\n}\n");
  } else {
    result.out = absl::StrCat("tutti   ", kVersion, " (protocol ", kProtocolVersion, ")\n");
    if (status.ok()) {
      absl::StrAppend(&result.out, "tuttid  ", daemon, " (pid ", status->pid(), ", ",
                      Escaped(status->socket_dir()), ")\n");
    }
  }
  return result;
}

}  // namespace tutti
