#include "daemon/core/arena_table.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/failpoint.h"
#include "shm/arena.h"

namespace tutti {

namespace {

Failure Invalid(std::string message) {
  return {.cause = Cause::kInvalid, .message = std::move(message)};
}

Failure NoSuchArena(ArenaId arena) {
  return {.cause = Cause::kNotFound, .message = absl::StrCat("this session has no arena ", arena)};
}

}  // namespace

// Counts the bytes for as long as any part of an arena exists, its memfd here, its mapper or its
// mapping in a work, and then says that they are gone. Its last share is dropped on the loop.
struct ArenaCharge {
  ArenaCharge(std::shared_ptr<ArenaAccount> of, uint64_t size)
      : account(std::move(of)), bytes(size) {
    account->bytes += bytes;
  }
  ~ArenaCharge() {
    account->bytes -= bytes;
    if (gone) gone();
  }
  ArenaCharge(const ArenaCharge&) = delete;
  ArenaCharge& operator=(const ArenaCharge&) = delete;

  const std::shared_ptr<ArenaAccount> account;
  const uint64_t bytes;
  std::function<void()> gone;
};

struct ArenaTable::Arena {
  uint64_t size_bytes = 0;
  std::shared_ptr<ArenaCharge> charge;
  UniqueFd file;                           // while offered
  std::shared_ptr<const Mapping> mapping;  // once ready
};

ArenaAdoption::ArenaAdoption(UniqueFd file, uint64_t size_bytes, ArenaRunners runners,
                             std::shared_ptr<ArenaCharge> charge)
    : file_(std::move(file)),
      size_bytes_(size_bytes),
      runners_(runners),
      charge_(std::move(charge)) {}

absl::Status ArenaAdoption::Map() {
  absl::StatusOr<Mapping> mapping = AdoptArena(file_.get(), size_bytes_);
  if (!mapping.ok()) return mapping.status();
  // Unmapping takes 85 ms per GiB: not on the loop, and not on the thread that drops the last
  // share.
  const auto unmap = [runners = runners_, charge = charge_](const Mapping* gone) {
    runners.mapper->Post([gone, runners, charge]() mutable {
      delete gone;
      runners.loop->Post([charge = std::move(charge)] {});
    });
  };
  mapping_ = std::shared_ptr<const Mapping>(new Mapping(*std::move(mapping)), unmap);
  return absl::OkStatus();
}

ArenaTable::ArenaTable(const Limits* limits, ArenaRunners runners,
                       std::shared_ptr<ArenaAccount> account)
    : limits_(limits), runners_(runners), account_(std::move(account)) {}

ArenaTable::~ArenaTable() = default;

Result<ArenaId> ArenaTable::Create(uint64_t size_bytes) {
  if (size_bytes == 0 || size_bytes % kArenaAlignmentBytes != 0) {
    return Invalid(absl::StrCat("an arena of ", size_bytes, " bytes: must be a multiple of ",
                                kArenaAlignmentBytes));
  }
  const auto limit = [](std::string what, uint64_t value, const char* setting) {
    return Failure{
        .cause = Cause::kLimit,
        .message = absl::StrCat(what, " would exceed the limit of ", value, " (", setting, ")")};
  };
  if (arenas_.size() >= limits_->arenas_per_session_max) {
    return limit("one more arena of this session", limits_->arenas_per_session_max,
                 "arenas_per_session_max");
  }
  if (size_bytes > limits_->arena_bytes_per_session_max ||
      bytes_ > limits_->arena_bytes_per_session_max - size_bytes) {
    return limit(absl::StrCat(size_bytes, " more bytes of this session's arenas"),
                 limits_->arena_bytes_per_session_max, "arena_bytes_per_session_max");
  }
  if (size_bytes > limits_->arena_bytes_max ||
      account_->bytes > limits_->arena_bytes_max - size_bytes) {
    return limit(absl::StrCat(size_bytes, " more bytes of arenas"), limits_->arena_bytes_max,
                 "arena_bytes_max");
  }
  absl::StatusOr<UniqueFd> file = CreateArenaFile(size_bytes);
  if (!file.ok()) {
    return Failure{.cause = Cause::kLimit, .message = std::string(file.status().message())};
  }
  auto arena = std::make_shared<Arena>();
  arena->size_bytes = size_bytes;
  arena->charge = std::make_shared<ArenaCharge>(account_, size_bytes);
  arena->file = std::move(*file);
  bytes_ += size_bytes;
  arenas_.emplace(++last_id_, std::move(arena));
  return last_id_;
}

int ArenaTable::FdOf(ArenaId arena) const {
  const auto found = arenas_.find(arena);
  return found == arenas_.end() ? -1 : found->second->file.get();
}

Result<std::shared_ptr<ArenaAdoption>> ArenaTable::StartAdopt(ArenaId id) {
  const auto found = arenas_.find(id);
  if (found == arenas_.end()) return NoSuchArena(id);
  Arena& arena = *found->second;
  if (!arena.file.valid()) return Invalid(absl::StrCat("arena ", id, " has been mapped already"));
  return std::make_shared<ArenaAdoption>(std::move(arena.file), arena.size_bytes, runners_,
                                         arena.charge);
}

bool ArenaTable::FinishAdopt(ArenaId arena, const ArenaAdoption& adoption) {
  const auto found = arenas_.find(arena);
  if (found == arenas_.end()) return false;
  found->second->mapping = adoption.mapping();
  return true;
}

std::optional<Failure> ArenaTable::Release(ArenaId arena, std::function<void()> unmapped) {
  const auto found = arenas_.find(arena);
  if (found == arenas_.end()) return NoSuchArena(arena);
  bytes_ -= found->second->size_bytes;
  found->second->charge->gone = std::move(unmapped);
  // Not inside of this call, should this be the last share.
  runners_.loop->Post([charge = found->second->charge] {});
  arenas_.erase(found);
  return std::nullopt;
}

Result<std::byte*> ArenaTable::Resolve(const Span& span,
                                       std::shared_ptr<const Mapping>* keep) const {
  const auto found = arenas_.find(span.arena);
  if (found == arenas_.end()) {
    return Invalid(absl::StrCat("this session has no arena ", span.arena));
  }
  const std::shared_ptr<const Mapping>& mapping = found->second->mapping;
  if (mapping == nullptr) {
    return Invalid(absl::StrCat("arena ", span.arena, " is not ready: wait for ArenaReady"));
  }
  const uint64_t size = found->second->size_bytes;
  const bool outside = span.offset > size || span.length > size - span.offset;
  // The planted defect: a work may name memory that is not its session's.
  if (outside && !Mutated("arena.skip_bounds")) {
    return Invalid(absl::StrCat("bytes ", span.offset, " to ", span.offset, " + ", span.length,
                                " do not lie in arena ", span.arena, " of ", size, " bytes"));
  }
  // The planted defect: a work that does not own what it names.
  if (!Mutated("arena.unmap_early")) *keep = mapping;
  return mapping->data() + span.offset;
}

}  // namespace tutti
