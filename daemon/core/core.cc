#include "daemon/core/core.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/deadline_queue.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/mutex.h"
#include "daemon/core/arena_table.h"
#include "daemon/core/complete.h"
#include "daemon/core/execute.h"
#include "daemon/core/group_registry.h"
#include "daemon/core/session.h"
#include "shm/arena.h"

namespace tutti {
namespace {

Failure NoSession(SessionId session) {
  return {.cause = Cause::kNotFound, .message = absl::StrCat("session ", session, " has ended")};
}

Failure Draining() {
  return {.cause = Cause::kDraining,
          .message = "the daemon is draining: it takes no new sessions and groups"};
}

}  // namespace

class Core::Impl {
 public:
  Impl(Limits limits, Dependencies dependencies)
      : limits_(std::move(limits)),
        dependencies_(std::move(dependencies)),
        deadlines_(dependencies_.clock, dependencies_.loop),
        executor_(dependencies_.loop, dependencies_.workers, limits_.inline_bytes_max),
        completer_([this](SessionId session) { return Find(session); }),
        services_{.clock = dependencies_.clock,
                  .limits = &limits_,
                  .processes = dependencies_.processes,
                  .deadlines = &deadlines_,
                  .executor = &executor_,
                  .completer = &completer_,
                  .find_session = [this](SessionId session) { return Find(session); },
                  .ended = [this] { PublishSoon(); }},
        groups_(&limits_, &dependencies_, &services_) {
    Publish();
    ScheduleTick();
  }

  void CheckThread() const { TUTTI_CHECK(dependencies_.loop->IsCurrent()); }

  Result<SessionId> OpenSession(SessionInfo info);
  void CloseSession(SessionId id, Cause cause, const std::string& message);
  Result<ArenaOffer> CreateArena(SessionId session, uint64_t size_bytes);
  void ArenaMapped(SessionId session, ArenaId arena, DoneCallback done);
  void ReleaseArena(SessionId session, ArenaId arena, DoneCallback done);
  void Leave(SessionId session, MembershipId membership, WorkNumber after_work, DoneCallback done);
  std::optional<Failure> Submit(SessionId session, const WorkRequest& request);
  void Drain(std::function<void()> idle);
  void CloseAllSessions();

  Session* Find(SessionId session) {
    const auto found = sessions_.find(session);
    return found == sessions_.end() ? nullptr : found->second.get();
  }
  GroupRegistry& groups() { return groups_; }
  // Callbacks never run inside the call that was given them.
  template <typename Callback, typename Answer>
  void Reply(Callback done, Answer answer) {
    dependencies_.loop->Post(
        [done = std::move(done), answer = std::move(answer)] { done(answer); });
  }
  std::shared_ptr<const Snapshot> snapshot() const {
    MutexLock lock(&snapshot_mutex_);
    return snapshot_;
  }

 private:
  std::optional<Failure> CheckInfo(const SessionInfo& info) const;
  void ScheduleTick();
  void Publish();
  // Once for all that happens in this turn of the loop: many groups may end together.
  void PublishSoon();
  void CheckIdle();

  const Limits limits_;
  const Dependencies dependencies_;
  DeadlineQueue deadlines_;
  Executor executor_;
  Completer completer_;
  const GroupServices services_;
  const std::shared_ptr<ArenaAccount> arena_account_ = std::make_shared<ArenaAccount>();
  const std::shared_ptr<SendBudget> send_budget_ =
      std::make_shared<SendBudget>(limits_.send_bytes_max);
  std::map<SessionId, std::unique_ptr<Session>> sessions_;
  SessionId last_session_ = 0;
  GroupRegistry groups_;
  bool draining_ = false;
  std::function<void()> idle_;
  uint64_t snapshots_ = 0;
  bool publish_posted_ = false;
  // Tasks that the loop holds find this gone after the core has been destroyed.
  const std::shared_ptr<Impl*> self_ = std::make_shared<Impl*>(this);

  mutable Mutex snapshot_mutex_;
  std::shared_ptr<const Snapshot> snapshot_ ABSL_GUARDED_BY(snapshot_mutex_);
};

std::optional<Failure> Core::Impl::CheckInfo(const SessionInfo& info) const {
  if (draining_) return Draining();
  if (auto failure = CheckNames(info)) return failure;
  if (sessions_.size() >= limits_.sessions_max) {
    return Failure{.cause = Cause::kLimit,
                   .message = absl::StrCat("one more session would exceed the limit of ",
                                           limits_.sessions_max, " (sessions_max)")};
  }
  uint64_t of_user = 0;
  for (const auto& [id, session] : sessions_) of_user += session->info().uid == info.uid ? 1 : 0;
  if (of_user >= limits_.sessions_per_user_max) {
    return Failure{.cause = Cause::kLimit,
                   .message = absl::StrCat(
                       "one more session of user ", info.uid, " would exceed the limit of ",
                       limits_.sessions_per_user_max, " (sessions_per_user_max)")};
  }
  return std::nullopt;
}

Result<SessionId> Core::Impl::OpenSession(SessionInfo info) {
  if (info.name_space.empty()) info.name_space = "default";
  if (auto failure = CheckInfo(info)) return *std::move(failure);
  const SessionId id = ++last_session_;
  ArenaTable arenas(&limits_, {dependencies_.loop, dependencies_.mapper}, arena_account_);
  const auto [entry, added] = sessions_.emplace(
      id, std::make_unique<Session>(
              id, std::move(info), dependencies_.clock->Now(), std::move(arenas),
              std::make_shared<SendBudget>(limits_.send_bytes_per_session_max, send_budget_)));
  LogDebug("session.open {}", entry->second->Describe());
  return id;
}

void Core::Impl::CloseSession(SessionId id, Cause cause, const std::string& message) {
  Session* const session = Find(id);
  if (session == nullptr) return;
  LogDebug("session.close {} cause={}", session->Describe(), NameOf(cause));
  session->RunAllLeaves();
  // Its own works end like those of the others.
  groups_.SessionGone(session, cause);
  session->CloseLane({.cause = cause, .message = message});
  auto node = sessions_.extract(id);
  // The planted defect: a session that is never freed (but known, so that LeakSanitizer leaves it
  // to our own check).
  if (Mutated("session.leak")) {
    static auto* const kept = new std::vector<std::unique_ptr<Session>>;
    kept->push_back(std::move(node.mapped()));
  }
  CheckIdle();
}

Result<ArenaOffer> Core::Impl::CreateArena(SessionId id, uint64_t size_bytes) {
  Session* const session = Find(id);
  if (session == nullptr) return NoSession(id);
  Result<ArenaId> arena = session->arenas().Create(size_bytes);
  if (!arena.ok()) return arena.failure();
  return ArenaOffer{.arena = *arena, .fd = session->arenas().FdOf(*arena)};
}

void Core::Impl::ArenaMapped(SessionId id, ArenaId arena, DoneCallback done) {
  Session* const session = Find(id);
  if (session == nullptr) return Reply(std::move(done), NoSession(id));
  Result<std::shared_ptr<ArenaAdoption>> started = session->arenas().StartAdopt(arena);
  if (!started.ok()) return Reply(std::move(done), started.failure());
  dependencies_.mapper->Post([weak = std::weak_ptr<Impl*>(self_), loop = dependencies_.loop,
                              adoption = *std::move(started), id, arena,
                              done = std::move(done)]() mutable {
    absl::Status mapped = adoption->Map();
    loop->Post([weak, adoption = std::move(adoption), mapped = std::move(mapped), id, arena, done] {
      const auto self = weak.lock();
      if (self == nullptr) return;
      Session* const owner = (*self)->Find(id);
      if (owner == nullptr) return done(NoSession(id));
      if (!mapped.ok()) {
        (void)owner->arenas().Release(arena, [] {});
        return done(Failure{.cause = Cause::kInvalid, .message = std::string(mapped.message())});
      }
      if (!owner->arenas().FinishAdopt(arena, *adoption)) {
        return done(Failure{.cause = Cause::kWithdrawn,
                            .message = absl::StrCat("arena ", arena, " was released meanwhile")});
      }
      done(std::nullopt);
    });
  });
}

void Core::Impl::ReleaseArena(SessionId id, ArenaId arena, DoneCallback done) {
  Session* const session = Find(id);
  std::optional<Failure> failure =
      session == nullptr ? NoSession(id)
                         : session->arenas().Release(arena, [done] { done(std::nullopt); });
  if (failure.has_value()) Reply(std::move(done), std::move(failure));
}

void Core::Impl::Leave(SessionId id, MembershipId membership, WorkNumber after_work,
                       DoneCallback done) {
  Session* const session = Find(id);
  const auto reply = [this, done = std::move(done)] { Reply(done, std::nullopt); };
  if (session == nullptr || groups_.Find(id, membership) == nullptr) return reply();
  // More than that cannot be on its way.
  after_work = std::min(after_work, session->last_received() + limits_.works_in_flight_max);
  const bool first =
      session->LeaveAfter(after_work, membership, [this, session, membership, reply] {
        groups_.Leave(session, membership);
        reply();
      });
  // Asked for already.
  if (!first) reply();
}

std::optional<Failure> Core::Impl::Submit(SessionId id, const WorkRequest& request) {
  Session* const session = Find(id);
  if (session == nullptr) return NoSession(id);
  if (auto broken = session->TakeNumber(request.number, limits_.works_in_flight_max)) {
    LogWarning("session.protocol_error {} message={}", session->Describe(),
               Quoted(broken->message));
    CloseSession(id, Cause::kProtocol, broken->message);
    return broken;
  }
  completer_.Submitted();
  const GroupRegistry::Seat* const seat = groups_.Find(id, request.membership);
  if (seat == nullptr) {
    const char* const message = "this session holds no such seat: it has left, or never joined";
    completer_.Complete(id, request.number, Failure{.cause = Cause::kNotFound, .message = message});
  } else {
    const std::shared_ptr<Group> group = seat->group;
    group->Submit(session, seat->rank, request);
  }
  session->RunDueLeaves();
  CheckIdle();
  return std::nullopt;
}

void Core::Impl::Drain(std::function<void()> idle) {
  draining_ = true;
  idle_ = std::move(idle);
  groups_.Refuse(Draining());
  CheckIdle();
}

void Core::Impl::CheckIdle() {
  if (!draining_ || !idle_ || completer_.totals().works_pending() > 0) return;
  dependencies_.loop->Post(std::exchange(idle_, nullptr));
}

void Core::Impl::CloseAllSessions() {
  groups_.AbortAll();
  while (!sessions_.empty())
    CloseSession(sessions_.begin()->first, Cause::kDraining, "the daemon is shutting down");
}

void Core::Impl::ScheduleTick() {
  dependencies_.loop->PostAt(dependencies_.clock->Now() + kSnapshotPeriod,
                             [weak = std::weak_ptr<Impl*>(self_)] {
                               const auto self = weak.lock();
                               if (self == nullptr) return;
                               (*self)->groups_.ReportStalls();
                               (*self)->Publish();
                               (*self)->CheckIdle();
                               (*self)->ScheduleTick();
                             });
}

void Core::Impl::PublishSoon() {
  if (std::exchange(publish_posted_, true)) return;
  dependencies_.loop->Post([weak = std::weak_ptr<Impl*>(self_)] {
    if (const auto self = weak.lock()) (*self)->Publish();
  });
}

void Core::Impl::Publish() {
  publish_posted_ = false;
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->number = ++snapshots_;
  snapshot->taken = dependencies_.clock->Now();
  snapshot->draining = draining_;
  snapshot->totals = completer_.totals();
  snapshot->arena_bytes = arena_account_->bytes;
  snapshot->groups = groups_.Show();
  for (const auto& [id, session] : sessions_) snapshot->sessions.push_back(session->Show());
  MutexLock lock(&snapshot_mutex_);
  snapshot_ = std::move(snapshot);
}

Core::Core(Limits limits, Dependencies dependencies)
    : impl_(std::make_unique<Impl>(std::move(limits), std::move(dependencies))) {}
Core::~Core() = default;

Result<SessionId> Core::OpenSession(SessionInfo info) {
  impl_->CheckThread();
  return impl_->OpenSession(std::move(info));
}

void Core::CloseSession(SessionId session, SessionEnd end) {
  impl_->CheckThread();
  impl_->CloseSession(session, CauseOf(end), "the session has ended");
}

Result<ArenaOffer> Core::CreateArena(SessionId session, uint64_t size_bytes) {
  impl_->CheckThread();
  return impl_->CreateArena(session, size_bytes);
}

void Core::ArenaMapped(SessionId session, ArenaId arena, DoneCallback done) {
  impl_->CheckThread();
  impl_->ArenaMapped(session, arena, std::move(done));
}

void Core::ReleaseArena(SessionId session, ArenaId arena, DoneCallback done) {
  impl_->CheckThread();
  impl_->ReleaseArena(session, arena, std::move(done));
}

Result<ArenaView> Core::View(SessionId session, const Span& span) const {
  impl_->CheckThread();
  const Session* const found = impl_->Find(session);
  if (found == nullptr) return NoSession(session);
  ArenaView view;
  const Result<std::byte*> data = found->arenas().Resolve(span, &view.keep);
  if (!data.ok()) return data.failure();
  view.data = *data;
  return view;
}

JoinId Core::Join(SessionId session, const JoinRequest& request, JoinCallback done) {
  impl_->CheckThread();
  Session* const found = impl_->Find(session);
  if (found != nullptr) return impl_->groups().Join(found, request, std::move(done));
  impl_->Reply(std::move(done), NoSession(session));
  return 0;
}

void Core::CancelJoin(JoinId join) {
  impl_->CheckThread();
  impl_->groups().CancelJoin(join);
}

void Core::Leave(SessionId session, MembershipId membership, WorkNumber after_work,
                 DoneCallback done) {
  impl_->CheckThread();
  impl_->Leave(session, membership, after_work, std::move(done));
}

void Core::CallOff(SessionId session, uint64_t join_number, DoneCallback done) {
  impl_->CheckThread();
  if (auto* const caller = impl_->Find(session)) impl_->groups().CallOff(caller, join_number);
  impl_->Reply(std::move(done), std::nullopt);
}

Result<WorkNumber> Core::Attach(SessionId session, Lane* lane, uint64_t acknowledged) {
  impl_->CheckThread();
  Session* const found = impl_->Find(session);
  if (found == nullptr) return NoSession(session);
  if (auto broken = found->Attach(lane, acknowledged)) return *std::move(broken);
  return found->last_received();
}

void Core::Detach(SessionId session, Lane* lane) {
  impl_->CheckThread();
  if (Session* const found = impl_->Find(session)) found->Detach(lane);
}

std::optional<Failure> Core::Submit(SessionId session, const WorkRequest& request) {
  impl_->CheckThread();
  return impl_->Submit(session, request);
}

std::optional<Failure> Core::Acknowledge(SessionId session, uint64_t serial) {
  impl_->CheckThread();
  Session* const found = impl_->Find(session);
  return found == nullptr ? std::nullopt : found->Acknowledge(serial);
}

void Core::Drain(std::function<void()> idle) {
  impl_->CheckThread();
  impl_->Drain(std::move(idle));
}

void Core::CloseAllSessions() {
  impl_->CheckThread();
  impl_->CloseAllSessions();
}

PeerListener* Core::peers() { return impl_->groups().peers(); }
std::shared_ptr<const Snapshot> Core::snapshot() const { return impl_->snapshot(); }

}  // namespace tutti
