#include "daemon/core/session.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "daemon/core/limits.h"
#include "daemon/core/work.h"

namespace tutti {

std::string InFlight::Describe() const {
  return absl::StrCat(tutti::Describe(*operation), " of group ", Quoted(*group));
}

std::optional<Failure> CheckNames(const SessionInfo& info) {
  if (info.name_space.size() <= kNameBytesMax && info.label.size() <= kNameBytesMax &&
      info.client_version.size() <= kNameBytesMax) {
    return std::nullopt;
  }
  return Failure{.cause = Cause::kInvalid,
                 .message = absl::StrCat("namespace, label and client version have at most ",
                                         kNameBytesMax, " bytes each")};
}

Cause CauseOf(SessionEnd end) {
  switch (end) {
    case SessionEnd::kHungUp:
      return Cause::kRankDied;
    case SessionEnd::kGoodbye:
      return Cause::kSessionClosed;
    case SessionEnd::kProtocolError:
      return Cause::kProtocol;
  }
  return Cause::kInternal;
}

Session::Session(SessionId id, SessionInfo info, MonotonicTime opened, ArenaTable arenas,
                 std::shared_ptr<SendBudget> send_budget)
    : id_(id),
      info_(std::move(info)),
      opened_(opened),
      arenas_(std::move(arenas)),
      send_budget_(std::move(send_budget)) {}

std::string Session::Describe() const {
  std::string text = absl::StrCat("session ", id_);
  if (info_.pid != 0) absl::StrAppend(&text, ", pid ", info_.pid);
  if (!info_.label.empty()) absl::StrAppend(&text, ", ", Quoted(info_.label));
  return text;
}

std::optional<Failure> Session::TakeNumber(WorkNumber number, uint64_t in_flight_max) {
  const auto broken = [](std::string message) {
    return Failure{.cause = Cause::kProtocol, .message = std::move(message)};
  };
  if (number != last_received_ + 1) {
    return broken(absl::StrCat("work ", number, " follows work ", last_received_,
                               ": numbers must have no gap; is another thread submitting?"));
  }
  if (in_flight_.size() >= in_flight_max) {
    return broken(absl::StrCat("more than ", in_flight_max,
                               " works in flight (works_in_flight_max): wait for some first"));
  }
  if (completions_.size() >= 4 * in_flight_max) {
    return broken(absl::StrCat(completions_.size(), " completions were not acknowledged"));
  }
  last_received_ = number;
  return std::nullopt;
}

bool Session::LeaveAfter(WorkNumber after, MembershipId membership, std::function<void()> leave) {
  if (leaves_.contains(membership)) return false;
  leaves_[membership] = {after, std::move(leave)};
  RunDueLeaves();
  return true;
}

void Session::RunDueLeaves() {
  for (auto entry = leaves_.begin(); entry != leaves_.end();) {
    if (entry->second.after > last_received_) {
      ++entry;
      continue;
    }
    const std::function<void()> leave = std::move(entry->second.leave);
    entry = leaves_.erase(entry);
    leave();
  }
}

void Session::RunAllLeaves() {
  while (!leaves_.empty()) leaves_.extract(leaves_.begin()).mapped().leave();
}

void Session::Complete(WorkNumber number, std::optional<Failure> failure) {
  in_flight_.erase(number);
  completions_.push_back(
      {.serial = ++last_serial_, .number = number, .failure = std::move(failure)});
  if (lane_ != nullptr) lane_->Deliver(completions_.back());
}

std::optional<Failure> Session::Acknowledge(uint64_t serial) {
  if (serial > last_serial_) {
    return Failure{.cause = Cause::kProtocol,
                   .message = absl::StrCat("completion ", serial, " is acknowledged; there were ",
                                           last_serial_)};
  }
  while (!completions_.empty() && completions_.front().serial <= serial) completions_.pop_front();
  return std::nullopt;
}

std::optional<Failure> Session::Attach(Lane* lane, uint64_t acknowledged) {
  if (auto broken = Acknowledge(acknowledged)) return broken;
  CloseLane({.cause = Cause::kWithdrawn, .message = "another lane has taken this one's place"});
  lane_ = lane;
  for (const Completion& completion : completions_) lane_->Deliver(completion);
  return std::nullopt;
}

void Session::Detach(Lane* lane) {
  if (lane_ == lane) lane_ = nullptr;
}

void Session::CloseLane(const Failure& reason) {
  if (Lane* const lane = std::exchange(lane_, nullptr)) lane->Close(reason);
}

SessionSnapshot Session::Show() const {
  return {.id = id_,
          .pid = info_.pid,
          .uid = info_.uid,
          .name_space = info_.name_space,
          .label = info_.label,
          .client_version = info_.client_version,
          .lane = std::string(lane_ == nullptr ? "none" : lane_->name()),
          .no_ring = std::string(lane_ == nullptr ? "" : lane_->no_ring()),
          .arenas = static_cast<uint32_t>(arenas_.count()),
          .arena_bytes = arenas_.bytes(),
          .memberships = static_cast<uint32_t>(memberships_.size()),
          .works_pending = in_flight_.size(),
          .works_received = last_received_,
          .opened = opened_};
}

}  // namespace tutti
