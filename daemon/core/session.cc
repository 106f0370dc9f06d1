#include "daemon/core/session.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace tutti {

Session::Session(SessionId id, SessionInfo info, MonotonicTime opened, ArenaTable arenas)
    : id_(id), info_(std::move(info)), opened_(opened), arenas_(std::move(arenas)) {}

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

void Session::WhenReceived(WorkNumber number, std::function<void()> then) {
  when_received_.emplace(number, std::move(then));
  RunWhenReceived();
}

void Session::RunWhenReceived() {
  while (!when_received_.empty() && when_received_.begin()->first <= last_received_) {
    const auto due = when_received_.extract(when_received_.begin());
    due.mapped()();
  }
}

void Session::RunAllWhenReceived() {
  while (!when_received_.empty()) when_received_.extract(when_received_.begin()).mapped()();
}

void Session::Complete(WorkNumber number, std::optional<Failure> failure) {
  in_flight_.erase(number);
  completions_.push_back(
      {.serial = ++last_serial_, .number = number, .failure = std::move(failure)});
  if (lane_ != nullptr) lane_->Deliver(completions_.back());
}

void Session::Acknowledge(uint64_t serial) {
  while (!completions_.empty() && completions_.front().serial <= serial) completions_.pop_front();
}

void Session::Attach(Lane* lane, uint64_t acknowledged) {
  CloseLane({.cause = Cause::kWithdrawn, .message = "another lane has taken this one's place"});
  lane_ = lane;
  Acknowledge(acknowledged);
  for (const Completion& completion : completions_) lane_->Deliver(completion);
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
          .arenas = static_cast<uint32_t>(arenas_.count()),
          .arena_bytes = arenas_.bytes(),
          .memberships = static_cast<uint32_t>(memberships_.size()),
          .works_pending = in_flight_.size(),
          .works_received = last_received_,
          .opened = opened_};
}

}  // namespace tutti
