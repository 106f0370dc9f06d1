#include "daemon/core/arena_table.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/failpoint.h"
#include "shm/arena.h"

namespace tutti {

namespace {

// Counts bytes for as long as any part of an arena exists: its memfd here, or its mapping in a
// work.
class Charge {
 public:
  Charge(std::shared_ptr<ArenaAccount> account, uint64_t bytes)
      : account_(std::move(account)), bytes_(bytes) {
    account_->bytes += bytes_;
  }
  // On the control loop.
  ~Charge() { account_->bytes -= bytes_; }
  Charge(const Charge&) = delete;
  Charge& operator=(const Charge&) = delete;

 private:
  const std::shared_ptr<ArenaAccount> account_;
  const uint64_t bytes_;
};

Failure Invalid(std::string message) {
  return {.cause = Cause::kInvalid, .message = std::move(message)};
}

Failure NoSuchArena(ArenaId arena) {
  return {.cause = Cause::kNotFound, .message = absl::StrCat("this session has no arena ", arena)};
}

}  // namespace

struct ArenaTable::Arena {
  uint64_t size_bytes = 0;
  std::shared_ptr<Charge> charge;
  UniqueFd file;                           // while offered
  std::shared_ptr<const Mapping> mapping;  // once ready
  // What to tell when the memory is gone; shared with the mapping's deleter.
  std::shared_ptr<std::function<void()>> unmapped = std::make_shared<std::function<void()>>();
};

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
  arena->charge = std::make_shared<Charge>(account_, size_bytes);
  arena->file = std::move(*file);
  bytes_ += size_bytes;
  arenas_.emplace(++last_id_, std::move(arena));
  return last_id_;
}

int ArenaTable::FdOf(ArenaId arena) const {
  const auto found = arenas_.find(arena);
  return found == arenas_.end() ? -1 : found->second->file.get();
}

uint64_t ArenaTable::SizeOf(ArenaId arena) const {
  const auto found = arenas_.find(arena);
  return found == arenas_.end() ? 0 : found->second->size_bytes;
}

Result<UniqueFd> ArenaTable::StartAdopt(ArenaId arena) {
  const auto found = arenas_.find(arena);
  if (found == arenas_.end()) return NoSuchArena(arena);
  if (!found->second->file.valid()) {
    return Invalid(absl::StrCat("arena ", arena, " has been mapped already"));
  }
  return std::move(found->second->file);
}

bool ArenaTable::FinishAdopt(ArenaId arena, Mapping mapping) {
  const auto found = arenas_.find(arena);
  const bool wanted = found != arenas_.end();
  // Unmapping takes 85 ms per GiB: not on the loop, and not on the thread that drops the last
  // share.
  const auto unmap = [runners = runners_, charge = wanted ? found->second->charge : nullptr,
                      unmapped = wanted ? found->second->unmapped : nullptr](const Mapping* gone) {
    runners.mapper->Post([gone, runners, charge, unmapped]() mutable {
      delete gone;
      runners.loop->Post([charge = std::move(charge), unmapped = std::move(unmapped)] {
        if (unmapped != nullptr && *unmapped) (*unmapped)();
      });
    });
  };
  std::shared_ptr<const Mapping> shared(new Mapping(std::move(mapping)), unmap);
  if (wanted) found->second->mapping = std::move(shared);
  return wanted;
}

std::optional<Failure> ArenaTable::Release(ArenaId arena, std::function<void()> unmapped) {
  const auto found = arenas_.find(arena);
  if (found == arenas_.end()) return NoSuchArena(arena);
  bytes_ -= found->second->size_bytes;
  if (found->second->mapping == nullptr) {
    runners_.loop->Post(std::move(unmapped));
  } else {
    *found->second->unmapped = std::move(unmapped);
  }
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
