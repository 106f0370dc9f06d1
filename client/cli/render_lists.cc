#include "absl/strings/str_cat.h"
#include "base/failure.h"
#include "client/cli/problems.h"
#include "client/cli/render.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "proto/convert.h"

namespace tutti {
namespace {

bool HasEnded(const v1::OpStatus& op) {
  return op.state() == v1::WORK_STATE_DONE || op.state() == v1::WORK_STATE_FAILED;
}

Color ColorOf(v1::WorkState state) {
  if (state == v1::WORK_STATE_FAILED) return Color::kBad;
  return state == v1::WORK_STATE_DONE ? Color::kNone : Color::kWarning;
}

std::string Names(const v1::OpStatus& op) {
  const auto kind = FromProto(op.kind());
  std::string name = kind.has_value() ? NameOf(*kind) : "?";
  const auto reduce_op = FromProto(op.op()).value_or(ReduceOp::kNone);
  if (reduce_op != ReduceOp::kNone) absl::StrAppend(&name, " ", NameOf(reduce_op));
  return name;
}

std::string Elements(const v1::OpStatus& op) {
  const auto dtype = FromProto(op.dtype()).value_or(DataType::kNone);
  return dtype == DataType::kNone ? "-" : absl::StrCat(op.count(), " ", NameOf(dtype));
}

}  // namespace

std::string RenderSessions(const v1::ListSessionsResponse& sessions, const Style& style) {
  std::string text = RenderStaleness(sessions.snapshot(), style);
  if (sessions.sessions().empty()) return text + "no sessions\n";
  Table table(style.width, 10);
  for (const char* const name : {"ID", "PID", "UID"}) table.AddColumn(name, Table::Align::kRight);
  table.AddColumn("LANE", Table::Align::kLeft);
  for (const char* const name : {"ARENAS", "BYTES", "SEATS", "PENDING", "WORKS", "AGE"}) {
    table.AddColumn(name, Table::Align::kRight);
  }
  table.AddColumn("NAMESPACE/LABEL", Table::Align::kLeft);
  for (const v1::SessionSummary& session : sessions.sessions()) {
    table.AddRow(
        {Cell{absl::StrCat(session.id())},
         Cell{session.pid() == 0 ? "-" : absl::StrCat(session.pid())},
         Cell{absl::StrCat(session.uid())}, Cell{Escaped(session.lane())},
         Cell{absl::StrCat(session.arenas())}, Cell{Bytes(session.arena_bytes())},
         Cell{absl::StrCat(session.memberships())}, Cell{absl::StrCat(session.works_pending())},
         Cell{Count(static_cast<double>(session.works_received()))}, Cell{Age(session.age_ms())},
         Cell{GroupName(session.namespace_(), session.label())}});
  }
  absl::StrAppend(&text, table.Render(style.color));
  if (sessions.left_out() > 0) {
    absl::StrAppend(&text, "and ", sessions.left_out(), " more sessions\n");
  }
  for (const v1::SessionSummary& session : sessions.sessions()) {
    if (session.no_ring().empty()) continue;
    absl::StrAppend(&text, "session ", session.id(),
                    " is not on the ring: ", Escaped(session.no_ring()), "\n");
  }
  return text;
}

std::string RenderOps(const v1::ListOpsResponse& ops, const Style& style) {
  std::string text = RenderStaleness(ops.snapshot(), style);
  if (ops.ops().empty()) return text + "no operations\n";
  Table table(style.width, 0);
  table.AddColumn("GROUP", Table::Align::kLeft);
  for (const char* const name : {"EPOCH", "SEQ"}) table.AddColumn(name, Table::Align::kRight);
  table.AddColumn("OPERATION", Table::Align::kLeft);
  table.AddColumn("ELEMENTS", Table::Align::kRight);
  table.AddColumn("STATE", Table::Align::kLeft);
  for (const char* const name : {"AGE", "SPREAD", "RUN"}) {
    table.AddColumn(name, Table::Align::kRight);
  }
  for (const v1::OpStatus& op : ops.ops()) {
    const bool ended = HasEnded(op);
    table.AddRow({Cell{.text = GroupName(op.namespace_(), op.group()), .keep_end = true},
                  Cell{absl::StrCat(op.epoch())}, Cell{absl::StrCat("#", op.sequence())},
                  Cell{Names(op)}, Cell{Elements(op)},
                  Cell{Describe(op.state()), ColorOf(op.state())}, Cell{Age(op.age_ms())},
                  Cell{ended ? Microseconds(op.arrival_spread_us()) : "-"},
                  Cell{ended ? Microseconds(op.execution_us()) : "-"}});
  }
  absl::StrAppend(&text, table.Render(style.color));
  for (const v1::OpStatus& op : ops.ops()) {
    if (!op.has_failure()) continue;
    const Failure failure = FromProto(op.failure());
    absl::StrAppend(
        &text, "\n",
        Colored(absl::StrCat(GroupName(op.namespace_(), op.group()), " epoch ", op.epoch(), " #",
                             op.sequence(), "  ", NameOf(failure.cause)),
                Color::kBad, style.color),
        "\n", Wrapped(Escaped(failure.message), style.width, 2));
  }
  return text;
}

}  // namespace tutti
