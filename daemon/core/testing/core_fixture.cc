#include "daemon/core/testing/core_fixture.h"

#include <cstring>

#include "base/check.h"
#include "shm/arena.h"

namespace tutti {

Limits TestLimits() {
  Limits limits;
  limits.sessions_max = 12;
  limits.sessions_per_user_max = 10;
  limits.arena_bytes_max = 64 << 10;
  limits.arena_bytes_per_session_max = 32 << 10;
  limits.arenas_per_session_max = 4;
  limits.groups_per_namespace_max = 3;
  limits.world_size_max = 8;
  limits.works_in_flight_max = 16;
  limits.inline_bytes_max = 0;  // everything goes to the workers, where tests can hold it
  limits.recorder_ops_max = 4;
  limits.send_bytes_max = 6 << 10;
  limits.send_bytes_per_session_max = 4 << 10;
  return limits;
}

TestCore::TestCore(Limits limits) {
  core = std::make_unique<Core>(
      limits, Dependencies{.clock = &clock,
                           .loop = &loop,
                           .workers = &workers,
                           .mapper = &mapper,
                           .processes = &processes,
                           .random = [n = uint8_t{0}](
                                         void* bytes,
                                         size_t size) mutable { std::memset(bytes, ++n, size); },
                           .backends = {&backend}});
}

TestCore::~TestCore() {
  Settle();
  core.reset();
  Settle();
}

void TestCore::SettleLoop() {
  bool ran = true;
  while (ran) {
    ran = false;
    while (loop.RunOne()) ran = true;
    while (mapper.RunOne()) ran = true;
  }
}

void TestCore::Settle() {
  do {
    SettleLoop();
  } while (workers.RunOne());
}

void TestCore::Advance(absl::Duration by) {
  Settle();
  loop.Advance(by);
  Settle();
}

std::shared_ptr<const GroupSnapshot> TestCore::Group(const std::string& name) {
  Advance(kSnapshotPeriod);
  std::shared_ptr<const GroupSnapshot> newest;
  for (const auto& group : core->snapshot()->groups) {
    if (group->name == name && (newest == nullptr || group->epoch > newest->epoch)) newest = group;
  }
  return newest;
}

TestClient::TestClient(CoreHost* world_, uint32_t pid, std::string name_space) : world(world_) {
  Result<SessionId> opened = world->core->OpenSession({.pid = pid,
                                                       .uid = 1000,
                                                       .name_space = std::move(name_space),
                                                       .label = "",
                                                       .client_version = ""});
  TUTTI_CHECK(opened.ok());
  session = *opened;
  const size_t size = 4096;
  Result<ArenaOffer> offer = world->core->CreateArena(session, size);
  TUTTI_CHECK(offer.ok());
  arena = offer->arena;
  absl::StatusOr<Mapping> mapped = PopulateArena(offer->fd, size);
  TUTTI_CHECK(mapped.ok());
  memory = *std::move(mapped);
  world->core->ArenaMapped(session, arena,
                           [](std::optional<Failure> failure) { TUTTI_CHECK(!failure); });
  TUTTI_CHECK(world->core->Attach(session, this, 0).ok());
  world->Settle();
}

TestClient::~TestClient() { world->core->Detach(session, this); }

void TestClient::Deliver(const Completion& completion) {
  if (!completions.contains(completion.number)) order.push_back(completion.number);
  completions[completion.number] = completion;
}

void TestClient::Join(const JoinRequest& request) {
  joins_[request.group].reset();
  world->core->Join(session, request, [this, group = request.group](Result<Joined> result) {
    joins_[group] = std::move(result);
  });
  world->SettleLoop();
}

void TestClient::Join(const std::string& group, Rank rank, uint32_t world_size,
                      absl::Duration timeout) {
  Join(JoinRequest{.group = group,
                   .rank = rank,
                   .world_size = world_size,
                   .backend = "",
                   .join_timeout = timeout});
}

MembershipId TestClient::MemberOf(const std::string& group) const {
  const auto& result = joins_.at(group);
  return result.has_value() && result->ok() ? (*result)->membership : 0;
}

std::optional<Failure> TestClient::JoinFailure(const std::string& group) const {
  const auto& result = joins_.at(group);
  if (!result.has_value() || result->ok()) return std::nullopt;
  return result->failure();
}

Span TestClient::SpanOf(size_t tensor) const {
  return {.arena = arena, .offset = tensor * kTensorBytes, .length = kTensorBytes};
}

WorkRequest TestClient::Allreduce(const std::string& group, size_t tensor) const {
  return {.number = 0,
          .membership = MemberOf(group),
          .kind = CollectiveKind::kAllreduce,
          .dtype = DataType::kFloat32,
          .op = ReduceOp::kSum,
          .root = 0,
          .inputs = {SpanOf(tensor)},
          .outputs = {SpanOf(tensor)}};
}

WorkRequest TestClient::Barrier(const std::string& group) const {
  return {.number = 0, .membership = MemberOf(group), .kind = CollectiveKind::kBarrier};
}

WorkRequest TestClient::Send(const std::string& group, Rank to, size_t tensor) const {
  return {.number = 0,
          .membership = MemberOf(group),
          .kind = CollectiveKind::kSend,
          .dtype = DataType::kFloat32,
          .op = ReduceOp::kNone,
          .root = to,
          .inputs = {SpanOf(tensor)},
          .outputs = {}};
}

WorkRequest TestClient::Recv(const std::string& group, Rank from, size_t tensor) const {
  return {.number = 0,
          .membership = MemberOf(group),
          .kind = CollectiveKind::kRecv,
          .dtype = DataType::kFloat32,
          .op = ReduceOp::kNone,
          .root = from,
          .inputs = {},
          .outputs = {SpanOf(tensor)}};
}

WorkNumber TestClient::Submit(WorkRequest request) {
  request.number = ++last_number;
  protocol_failure = world->core->Submit(session, request);
  return request.number;
}

bool TestClient::Ok(WorkNumber number) const {
  return Done(number) && !completions.at(number).failure.has_value();
}

const Failure& TestClient::FailureOf(WorkNumber number) const {
  return completions.at(number).failure.value();
}

float* TestClient::Tensor(size_t tensor) const {
  return reinterpret_cast<float*>(memory.data() + tensor * kTensorBytes);
}

void TestClient::Fill(size_t tensor, float value) const {
  for (size_t i = 0; i < kCount; ++i) Tensor(tensor)[i] = value;
}

bool TestClient::AllEqual(size_t tensor, float value) const {
  for (size_t i = 0; i < kCount; ++i) {
    if (Tensor(tensor)[i] != value) return false;
  }
  return true;
}

void TestClient::Die() {
  world->core->CloseSession(session, SessionEnd::kHungUp);
  world->SettleLoop();
}

std::vector<std::unique_ptr<TestClient>> FormGroup(CoreHost* world, uint32_t world_size,
                                                   const std::string& name) {
  std::vector<std::unique_ptr<TestClient>> clients;
  for (Rank rank = 0; rank < world_size; ++rank) {
    clients.push_back(std::make_unique<TestClient>(world, 100 + rank));
    clients.back()->Join(name, rank, world_size);
  }
  return clients;
}

}  // namespace tutti
