#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/cli/problems.h"
#include "client/cli/render.h"
#include "client/cli/table.h"
#include "client/cli/text.h"

namespace tutti {
namespace {

// Below this, ids are left out, and so are versions unless they differ: then uptimes are.
constexpr size_t kWide = 100;
constexpr size_t kIdBytesShown = 3;
constexpr size_t kClusterGroupsMax = 12;
constexpr size_t kClusterProblemsMax = 8;

bool IsIn(const v1::ClusterNode& node, v1::NodeState state) { return node.state() == state; }

size_t Number(const v1::GetClusterResponse& cluster, v1::NodeState state) {
  return static_cast<size_t>(
      std::count_if(cluster.nodes().begin(), cluster.nodes().end(),
                    [state](const auto& node) { return IsIn(node, state); }));
}

// "3 nodes, 1 silent".
std::string Summary(const v1::GetClusterResponse& cluster) {
  const size_t lost = Number(cluster, v1::NODE_STATE_LOST);
  const size_t there = static_cast<size_t>(cluster.nodes_size()) - lost + cluster.left_out();
  std::string text = absl::StrCat(there, there == 1 ? " node" : " nodes");
  const auto add = [&](size_t number, const char* what) {
    if (number > 0) absl::StrAppend(&text, ", ", number, what);
  };
  add(Number(cluster, v1::NODE_STATE_SILENT), " silent");
  add(Number(cluster, v1::NODE_STATE_NOT_ASKED), " not asked");
  add(Number(cluster, v1::NODE_STATE_TOO_OLD), " too old to say");
  add(lost, " lost");
  return text;
}

Cell StateCell(const v1::ClusterNode& node) {
  switch (node.state()) {
    case v1::NODE_STATE_ANSWERED:
      if (node.status().age_ms() > kStaleMs) {
        return {absl::StrCat("stuck ", Age(node.status().age_ms())), Color::kBad};
      }
      return node.status().draining() ? Cell{"draining", Color::kWarning}
                                      : Cell{"serving", Color::kGood};
    case v1::NODE_STATE_SILENT:
      return {absl::StrCat("silent ", Age(node.since_ms())), Color::kBad};
    case v1::NODE_STATE_LOST:
      return {absl::StrCat("lost ", Age(node.since_ms())), Color::kBad};
    case v1::NODE_STATE_TOO_OLD:
      return {"too old", Color::kDim};
    case v1::NODE_STATE_NOT_ASKED:
      return {"not asked", Color::kWarning};
    default:
      return {"?", Color::kDim};
  }
}

bool HasOneVersion(const v1::GetClusterResponse& cluster) {
  std::map<std::string, int> versions;
  for (const v1::ClusterNode& node : cluster.nodes()) {
    if (IsIn(node, v1::NODE_STATE_ANSWERED)) ++versions[node.status().version()];
  }
  return versions.size() <= 1;
}

std::string RenderNodes(const v1::GetClusterResponse& cluster, const Style& style) {
  const bool ids = style.width >= kWide;
  const bool versions = style.width >= kWide || !HasOneVersion(cluster);
  const bool uptimes = style.width >= kWide || !versions;
  Table table(style.width, 0);
  const auto left = Table::Align::kLeft;
  table.AddColumn("NODE", left);
  if (ids) table.AddColumn("ID", left);
  table.AddColumn("ADDRESS", left);
  table.AddColumn("ROLE", left);
  table.AddColumn("STATE", left);
  if (versions) table.AddColumn("VERSION", left);
  if (uptimes) table.AddColumn("UP", Table::Align::kRight);
  for (const char* const name : {"SESS", "GROUPS", "PEND", "PROBS"}) {
    table.AddColumn(name, Table::Align::kRight);
  }
  for (const v1::ClusterNode& node : cluster.nodes()) {
    const bool known = IsIn(node, v1::NODE_STATE_ANSWERED);
    const v1::NodeStatus& status = node.status();
    const auto or_dash = [known](const std::string& text) { return Cell{known ? text : "-"}; };
    const auto count = [&](uint64_t number) { return or_dash(Count(static_cast<double>(number))); };
    std::vector<Cell> row{{.text = Escaped(node.node().name()), .keep_end = true}};
    if (ids) {
      row.push_back({absl::BytesToHexString(node.node().id().substr(0, kIdBytesShown))});
    }
    row.push_back({Escaped(node.node().address())});
    row.push_back({node.seed() ? "seed" : "-"});
    row.push_back(StateCell(node));
    if (versions) row.push_back(or_dash(Escaped(status.version())));
    if (uptimes) row.push_back(or_dash(Age(status.uptime_ms())));
    for (const uint64_t number : {status.sessions(), status.groups(), status.works_pending()}) {
      row.push_back(count(number));
    }
    row.push_back(count(CountProblems(status)));
    if (CountProblems(status) > 0) row.back().color = Color::kBad;
    table.AddRow(std::move(row));
  }
  std::string text = table.Render(style.color);
  if (cluster.left_out() > 0) absl::StrAppend(&text, "and ", cluster.left_out(), " more nodes\n");
  return text;
}

// Which nodes have how many ranks of a group.
using Spread = std::map<std::string, uint32_t>;
// Namespace, name, epoch.
using GroupId = std::tuple<std::string, std::string, uint64_t>;

std::map<GroupId, std::pair<uint32_t, Spread>> FindSpanning(const v1::GetClusterResponse& cluster) {
  std::map<std::string, int> names;
  for (const v1::ClusterNode& node : cluster.nodes()) ++names[node.node().name()];
  std::map<GroupId, std::pair<uint32_t, Spread>> found;
  for (const v1::ClusterNode& node : cluster.nodes()) {
    const bool unique = names[node.node().name()] == 1;
    const std::string label = Escaped(unique ? node.node().name() : node.node().address());
    for (const v1::SpanningGroup& group : node.status().spanning()) {
      auto& [size, spread] = found[{group.namespace_(), group.name(), group.epoch()}];
      size = group.world_size();
      spread[label] = group.ranks_here();
    }
  }
  return found;
}

std::string RenderSpanning(const v1::GetClusterResponse& cluster, const Style& style) {
  const auto groups = FindSpanning(cluster);
  if (groups.empty()) return "";
  Table table(style.width, 3);
  table.AddColumn("GROUP", Table::Align::kLeft);
  table.AddColumn("EPOCH", Table::Align::kRight);
  table.AddColumn("SIZE", Table::Align::kRight);
  table.AddColumn("NODES (RANKS)", Table::Align::kLeft);
  size_t rows = 0;
  for (const auto& [id, group] : groups) {
    if (++rows > kClusterGroupsMax) break;
    const auto& [name_space, name, epoch] = id;
    const std::string nodes =
        absl::StrJoin(group.second, ", ", [](std::string* out, const auto& entry) {
          absl::StrAppend(out, entry.first, " (", entry.second, ")");
        });
    table.AddRow({Cell{Shortened(GroupName(name_space, name), 30)}, Cell{absl::StrCat(epoch)},
                  Cell{absl::StrCat(group.first)}, Cell{nodes}});
  }
  std::string text = absl::StrCat("\n", table.Render(style.color));
  if (groups.size() > kClusterGroupsMax) {
    absl::StrAppend(&text, "and ", groups.size() - kClusterGroupsMax,
                    " more groups over several nodes\n");
  }
  return text;
}

std::string RenderProblems(const v1::GetClusterResponse& cluster, const Style& style) {
  const std::vector<std::string> problems = FindClusterProblems(cluster);
  if (problems.empty()) return "";
  std::string text = absl::StrCat("\n", Colored("PROBLEMS", Color::kBad, style.color), "\n");
  for (size_t i = 0; i < problems.size() && i < kClusterProblemsMax; ++i) {
    absl::StrAppend(&text, Wrapped(problems[i], style.width, 2));
  }
  if (problems.size() > kClusterProblemsMax) {
    absl::StrAppend(&text, "  and ", problems.size() - kClusterProblemsMax, " more\n");
  }
  return text;
}

}  // namespace

std::string RenderCluster(const v1::GetClusterResponse& cluster, const Style& style) {
  std::string screen = Summary(cluster);
  if (!cluster.has_membership()) {
    absl::StrAppend(&screen, ": this daemon is in no cluster");
  } else if (!cluster.nodes().empty()) {
    absl::StrAppend(&screen, "   seen from ", Describe(cluster.nodes(0).node()));
  }
  screen = absl::StrCat(Shortened(screen, std::max<size_t>(style.width, 40)), "\n");
  if (!cluster.seed_silent().empty()) {
    const std::string warning =
        "warning: the seed has not said who is in the cluster; these are the nodes that "
        "this daemon knows";
    for (const absl::string_view line :
         absl::StrSplit(Wrapped(warning, style.width, 0), '\n', absl::SkipEmpty())) {
      absl::StrAppend(&screen, Colored(std::string(line), Color::kBad, style.color), "\n");
    }
  }
  return absl::StrCat(screen, "\n", RenderNodes(cluster, style), RenderSpanning(cluster, style),
                      RenderProblems(cluster, style));
}

}  // namespace tutti
