#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/failure.h"
#include "client/cli/problems.h"
#include "client/cli/render.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "proto/convert.h"

namespace tutti {
namespace {

Color ColorOf(v1::RankActivity activity) {
  switch (activity) {
    case v1::RANK_ACTIVITY_STOPPED:
    case v1::RANK_ACTIVITY_GONE:
      return Color::kBad;
    case v1::RANK_ACTIVITY_NEVER_JOINED:
    case v1::RANK_ACTIVITY_IN_OTHER_OPERATION:
      return Color::kWarning;
    case v1::RANK_ACTIVITY_LEFT:
      return Color::kDim;
    default:
      return Color::kNone;
  }
}

std::string OrDash(uint64_t number) { return number == 0 ? "-" : absl::StrCat(number); }

std::string Head(const v1::GroupSummary& summary, const Style& style) {
  const std::string name = Shortened(Escaped(summary.name()), style.width / 2);
  return absl::StrCat(
      "group ", name, "   epoch ", summary.epoch(), "   ", Describe(summary.state()), "   ",
      summary.joined(), " of ", summary.world_size(), " ranks\n", "namespace ",
      Shortened(Escaped(summary.namespace_()), style.width / 2), "   backend ",
      Escaped(summary.backend()), "\nops ", Count(static_cast<double>(summary.ops_done())),
      " done, ", Count(static_cast<double>(summary.ops_failed())), " failed, ", summary.pending(),
      " pending   ", Count(summary.ops_per_second()), " ops/s   ",
      Count(std::round(summary.bytes_per_second())), " bytes/s\n");
}

// What the daemon says about a rank, without the name of the group that the screen is about.
std::string Detail(const v1::RankStatus& rank, const v1::GroupSummary& summary) {
  const std::string of_group = absl::StrCat(" of group \"", summary.name(), "\"");
  return Escaped(absl::StrReplaceAll(rank.detail(), {{of_group, ""}}));
}

std::string RankTable(const v1::GetGroupResponse& group, const Style& style) {
  Table table(style.width, 5);
  for (const char* const name : {"RANK", "PID", "SESSION"}) {
    table.AddColumn(name, Table::Align::kRight);
  }
  table.AddColumn("DOING", Table::Align::kLeft);
  table.AddColumn("LAST", Table::Align::kRight);
  table.AddColumn("SINCE", Table::Align::kLeft);
  for (const v1::RankStatus& rank : group.ranks()) {
    const std::string last =
        rank.last_sequence() == 0 ? "-" : absl::StrCat("#", rank.last_sequence());
    table.AddRow({Cell{absl::StrCat(rank.rank())}, Cell{OrDash(rank.pid())},
                  Cell{OrDash(rank.session())},
                  Cell{Describe(rank.activity()), ColorOf(rank.activity())}, Cell{last},
                  Cell{Detail(rank, group.summary())}});
  }
  return table.Render(style.color);
}

std::string PendingList(const v1::GetGroupResponse& group, const Style& style) {
  if (group.pending().empty()) return "";
  std::string text = absl::StrCat("\n", Colored("PENDING", Color::kDim, style.color), "\n");
  for (const v1::OpStatus& op : group.pending()) {
    const std::vector<uint32_t> arrived(op.arrived().begin(), op.arrived().end());
    const std::vector<uint32_t> missing(op.missing().begin(), op.missing().end());
    absl::StrAppend(&text, Wrapped(absl::StrCat(Describe(op), ": ", Describe(op.state()), " ",
                                                Age(op.age_ms()), " ago; arrived: ", Ranks(arrived),
                                                "; missing: ", Ranks(missing)),
                                   style.width, 2));
  }
  const uint64_t shown = static_cast<uint64_t>(group.pending_size());
  if (group.summary().pending() > shown) {
    absl::StrAppend(&text, "  and ", group.summary().pending() - shown, " more\n");
  }
  return text;
}

std::string FailureText(const v1::Failure& wire, const Style& style) {
  const Failure failure = FromProto(wire);
  std::string head = absl::StrCat("WHY IT ENDED  ", NameOf(failure.cause));
  if (failure.sequence > 0) absl::StrAppend(&head, "  in collective #", failure.sequence);
  if (!failure.culprits.empty()) absl::StrAppend(&head, "  culprits: ", Ranks(failure.culprits));
  if (!failure.missing.empty()) absl::StrAppend(&head, "  missing: ", Ranks(failure.missing));
  return absl::StrCat("\n", Colored(head, Color::kBad, style.color), "\n",
                      Wrapped(Escaped(failure.message), style.width, 2));
}

}  // namespace

std::string RenderGroup(const v1::GetGroupResponse& group, const Style& style) {
  std::string text =
      absl::StrCat(RenderStaleness(group.snapshot(), style), Head(group.summary(), style), "\n",
                   RankTable(group, style), PendingList(group, style));
  if (group.summary().has_failure()) {
    absl::StrAppend(&text, FailureText(group.summary().failure(), style));
  }
  return text;
}

}  // namespace tutti
