#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/problems.h"
#include "client/cli/render.h"
#include "client/cli/table.h"
#include "client/cli/text.h"

namespace tutti {
namespace {

// A terminal has 24 lines: 6 for the daemon, 2 for headers, 4 for problems.
constexpr size_t kStatusGroupsMax = 12;
constexpr size_t kStatusProblemsMax = 4;

Color ColorOf(const v1::GroupSummary& group) {
  if (IsStalled(group)) return Color::kWarning;
  switch (group.state()) {
    case v1::GROUP_STATE_READY:
      return Color::kGood;
    case v1::GROUP_STATE_FORMING:
      return Color::kWarning;
    case v1::GROUP_STATE_FAILED:
      return Color::kBad;
    default:
      return Color::kDim;
  }
}

// "4", or "3/4" while ranks are missing.
std::string Size(const v1::GroupSummary& group) {
  if (group.state() != v1::GROUP_STATE_FORMING) return absl::StrCat(group.world_size());
  return absl::StrCat(group.joined(), "/", group.world_size());
}

std::string OrDash(bool present, const std::string& text) { return present ? text : "-"; }

std::string Header(const v1::GetStatusResponse& status, const Style& style) {
  const bool stale = status.snapshot().age_ms() > kStaleMs;
  const Color color = stale ? Color::kBad : status.draining() ? Color::kWarning : Color::kGood;
  const char* const health = stale ? "stuck" : status.draining() ? "draining" : "serving";
  const std::string rest = absl::StrCat("   pid ", status.pid(), "   up ", Age(status.uptime_ms()));
  const std::string front = Shortened(
      absl::StrCat("tutti ", Escaped(status.version()), " on ", Escaped(status.node()), rest),
      std::max<size_t>(style.width - 12, 20));
  return absl::StrCat(front, "   ", Colored(health, color, style.color), "\n");
}

std::string Totals(const v1::GetStatusResponse& status) {
  return absl::StrCat("sessions ", status.sessions(), "   groups ", status.groups(), "   arenas ",
                      Bytes(status.arena_bytes()), "\nworks ",
                      Count(static_cast<double>(status.works_done())), " done, ",
                      Count(static_cast<double>(status.works_failed())), " failed, ",
                      Count(static_cast<double>(status.works_pending())), " pending\n");
}

std::string Backends(const v1::GetStatusResponse& status, const Style& style) {
  const std::string age = absl::StrCat("   ", Age(status.snapshot().age_ms()), " old");
  const std::string backends =
      absl::StrCat("backends ", Escaped(absl::StrJoin(status.backends(), " ")));
  const std::string where = absl::StrCat("   at ", Escaped(status.socket_dir()));
  const size_t width = std::max<size_t>(style.width, 40) - WidthOf(age);
  return absl::StrCat(Shortened(absl::StrCat(backends, where), width), age, "\n");
}

// Nothing for a daemon in no cluster.
std::string Cluster(const v1::GetStatusResponse& status, const Style& style) {
  if (!status.has_membership()) return "";
  const v1::Membership& membership = status.membership();
  const std::string age = Age(membership.since_ms());
  const std::string links = absl::StrCat("   links ", membership.links());
  std::string text;
  if (!membership.connected()) {
    text = absl::StrCat("cluster looks for the seed at ", Escaped(membership.join()), "   for ",
                        age, ": ", Escaped(membership.why()));
  } else if (membership.seed().id() == status.incarnation()) {
    text = absl::StrCat("cluster this daemon is the seed", links);
  } else {
    text =
        absl::StrCat("cluster seed ", Describe(membership.seed()), "   connected for ", age, links);
  }
  const Color color = membership.connected() ? Color::kNone : Color::kWarning;
  const std::string line = Shortened(text, std::max<size_t>(style.width, 40));
  return absl::StrCat(Colored(line, color, style.color), "\n");
}

}  // namespace

std::string RenderStaleness(const v1::SnapshotInfo& snapshot, const Style& style) {
  if (snapshot.age_ms() <= kStaleMs) return "";
  const std::string text = absl::StrCat("warning: the control loop has not answered for ",
                                        Age(snapshot.age_ms()), "; what follows is that old");
  return absl::StrCat(Colored(text, Color::kBad, style.color), "\n");
}

std::string RenderStatus(const v1::GetStatusResponse& status, const v1::ListGroupsResponse& groups,
                         const std::vector<v1::GetGroupResponse>& details, const Style& style) {
  std::string screen =
      absl::StrCat(RenderStaleness(status.snapshot(), style), Header(status, style), Totals(status),
                   Backends(status, style), Cluster(status, style), "\n",
                   RenderGroups(groups, kStatusGroupsMax, style));
  const std::vector<std::string> problems = FindProblems(status, groups, details);
  if (problems.empty()) return screen;
  absl::StrAppend(&screen, "\n", Colored("PROBLEMS", Color::kBad, style.color), "\n");
  for (size_t i = 0; i < problems.size() && i < kStatusProblemsMax; ++i) {
    absl::StrAppend(&screen, Wrapped(problems[i], style.width, 2));
  }
  if (problems.size() > kStatusProblemsMax) {
    absl::StrAppend(&screen, "  and ", problems.size() - kStatusProblemsMax,
                    " more: tutti groups\n");
  }
  return screen;
}

std::string RenderGroups(const v1::ListGroupsResponse& groups, size_t rows_max,
                         const Style& style) {
  if (groups.groups().empty()) return "no groups\n";
  Table table(style.width, 0);
  table.AddColumn("GROUP", Table::Align::kLeft);
  for (const char* const name : {"EPOCH", "SIZE"}) table.AddColumn(name, Table::Align::kRight);
  table.AddColumn("STATE", Table::Align::kLeft);
  for (const char* const name : {"OPS", "OPS/S", "BYTES/S", "PENDING", "OLDEST", "ERRORS"}) {
    table.AddColumn(name, Table::Align::kRight);
  }
  uint64_t left_out = groups.left_out();
  size_t rows = 0;
  for (const v1::GroupSummary& group : groups.groups()) {
    if (rows_max > 0 && rows == rows_max) {
      ++left_out;
      continue;
    }
    ++rows;
    const bool pending = group.pending() > 0;
    table.AddRow({Cell{.text = GroupName(group.namespace_(), group.name()), .keep_end = true},
                  Cell{absl::StrCat(group.epoch())}, Cell{Size(group)},
                  Cell{Describe(group.state()), ColorOf(group)},
                  Cell{Count(static_cast<double>(group.ops_done()))},
                  Cell{Count(group.ops_per_second())},
                  Cell{Count(std::round(group.bytes_per_second()))},
                  Cell{OrDash(pending, absl::StrCat(group.pending()))},
                  Cell{OrDash(pending, Age(group.oldest_pending_ms())),
                       IsStalled(group) ? Color::kWarning : Color::kNone},
                  Cell{OrDash(group.ops_failed() > 0, absl::StrCat(group.ops_failed())),
                       group.ops_failed() > 0 ? Color::kBad : Color::kNone}});
  }
  std::string text = table.Render(style.color);
  if (left_out > 0) absl::StrAppend(&text, "and ", left_out, " more groups\n");
  return text;
}

}  // namespace tutti
