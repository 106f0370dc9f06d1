// Works become operations: order, verdicts, deaths, deadlines, leaving.
#include "daemon/core/group.h"

#include <catch2/catch.hpp>

#include "base/failpoint.h"
#include "daemon/core/testing/core_fixture.h"

namespace tutti {
namespace {

using Clients = std::vector<std::unique_ptr<TestClient>>;

// One allreduce of tensor 0 with rank + 1 everywhere; the numbers of the works.
std::vector<WorkNumber> SubmitAll(const Clients& clients) {
  std::vector<WorkNumber> works;
  float value = 0;
  for (const auto& client : clients) {
    client->Fill(0, value += 1);
    works.push_back(client->Submit(client->Allreduce("dp")));
  }
  return works;
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("an allreduce completes at all ranks when the last has submitted") {
  TestCore world;
  const Clients clients = FormGroup(&world, 4);
  const auto works = SubmitAll(clients);
  for (size_t i = 0; i < 4; ++i) CHECK_FALSE(clients[i]->Done(works[i]));
  world.Settle();
  for (size_t i = 0; i < 4; ++i) {
    CHECK(clients[i]->Ok(works[i]));
    CHECK(clients[i]->AllEqual(0, 1 + 2 + 3 + 4));
  }
}

TEST_CASE("small operations run on the loop, without a worker") {
  Limits limits = TestLimits();
  limits.inline_bytes_max = 1 << 20;
  TestCore world(limits);
  const Clients clients = FormGroup(&world, 2);
  const auto works = SubmitAll(clients);
  CHECK(world.workers.pending() == 0);
  CHECK(clients[0]->Ok(works[0]));
  CHECK(clients[1]->AllEqual(0, 3));
}

TEST_CASE("works of one sequence end in their order, one at a time") {
  TestCore world;
  const Clients clients = FormGroup(&world, 2);
  for (int i = 0; i < 5; ++i) clients[0]->Submit(clients[0]->Allreduce("dp"));
  for (int i = 0; i < 5; ++i) clients[1]->Submit(clients[1]->Allreduce("dp"));
  CHECK(world.workers.pending() == 1);
  world.Settle();
  CHECK(clients[0]->order == std::vector<WorkNumber>{1, 2, 3, 4, 5});
  CHECK(clients[1]->order == clients[0]->order);
}

TEST_CASE("transfers match per ordered pair, apart from collectives") {
  TestCore world;
  const Clients clients = FormGroup(&world, 3);
  const WorkNumber barrier = clients[0]->Submit(clients[0]->Barrier("dp"));
  const WorkNumber send = clients[0]->Submit(clients[0]->Send("dp", 1));
  const WorkNumber other_way = clients[1]->Submit(clients[1]->Recv("dp", 2, 1));
  const WorkNumber recv = clients[1]->Submit(clients[1]->Recv("dp", 0));
  world.Settle();
  CHECK(clients[0]->Ok(send));
  CHECK(clients[1]->Ok(recv));
  CHECK_FALSE(clients[0]->Done(barrier));
  CHECK_FALSE(clients[1]->Done(other_way));
  REQUIRE(world.script.ran.size() == 1);
  CHECK(world.script.ran[0].kind == CollectiveKind::kSend);
  CHECK(world.script.ran[0].root == 0);
}

TEST_CASE("to a backend an agree is an allreduce of one bool; to ranks it is itself") {
  TestCore world;
  const Clients clients = FormGroup(&world, 2);
  WorkRequest agree{.kind = CollectiveKind::kAgree, .dtype = DataType::kBool};
  for (const auto& client : clients) {
    agree.membership = client->MemberOf("dp");
    agree.inputs = agree.outputs = {{.arena = client->arena, .offset = 0, .length = 1}};
    client->Submit(agree);
  }
  world.Settle();
  CHECK(clients[0]->Ok(1));
  REQUIRE(world.script.ran.size() == 1);
  CHECK(world.script.ran[0].kind == CollectiveKind::kAllreduce);
  CHECK(world.script.ran[0].dtype == DataType::kBool);
  CHECK(world.script.ran[0].op == ReduceOp::kMin);
  CHECK(world.script.ran[0].count == 1);
  agree.membership = clients[0]->MemberOf("dp");
  agree.inputs = agree.outputs = {{.arena = clients[0]->arena, .offset = 0, .length = 1}};
  clients[0]->Submit(agree);
  clients[1]->Submit(clients[1]->Barrier("dp"));
  world.Settle();
  CHECK(clients[1]->FailureOf(2).message.find("rank 0: agree; rank 1: barrier") !=
        std::string::npos);
}

TEST_CASE("ranks that disagree all get both sides, nothing is written, the group goes on") {
  TestCore world;
  const Clients clients = FormGroup(&world, 3);
  WorkRequest wrong = clients[2]->Allreduce("dp");
  std::string field;
  SECTION("operation") {
    wrong = clients[2]->Barrier("dp");
    field = "operation";
  }
  SECTION("dtype") {
    wrong.dtype = DataType::kInt32;
    field = "dtype";
  }
  SECTION("element count") {
    wrong.inputs[0].length = wrong.outputs[0].length = 8;
    field = "element count";
  }
  SECTION("reduce op") {
    wrong.op = ReduceOp::kMax;
    field = "reduce op";
  }
  for (const auto& client : clients) client->Fill(0, 5);
  clients[0]->Submit(clients[0]->Allreduce("dp"));
  clients[1]->Submit(clients[1]->Allreduce("dp"));
  clients[2]->Submit(wrong);
  world.Settle();
  for (const auto& client : clients) {
    REQUIRE(client->Done(1));
    const Failure& failure = client->FailureOf(1);
    CHECK(failure.cause == Cause::kMismatch);
    CHECK(failure.culprits == std::vector<Rank>{2});
    CHECK(failure == clients[0]->FailureOf(1));
    INFO(failure.message);
    CHECK(Contains(failure.message, field));
    CHECK(Contains(failure.message, "ranks 0, 1: allreduce sum of 16 float32"));
    CHECK(Contains(failure.message, "rank 2: "));
    CHECK(client->AllEqual(0, 5));
  }
  const auto works = SubmitAll(clients);
  world.Settle();
  for (size_t i = 0; i < 3; ++i) CHECK(clients[i]->Ok(works[i]));
}

TEST_CASE("a wrong root is a disagreement too") {
  TestCore world;
  const Clients clients = FormGroup(&world, 2);
  for (Rank rank = 0; rank < 2; ++rank) {
    WorkRequest work = clients[rank]->Allreduce("dp");
    work.kind = CollectiveKind::kBroadcast;
    work.op = ReduceOp::kNone;
    work.root = rank;
    work.outputs.clear();
    clients[rank]->Submit(work);
  }
  world.Settle();
  CHECK(clients[0]->FailureOf(1).cause == Cause::kMismatch);
  CHECK(Contains(clients[1]->FailureOf(1).message, "root"));
}

TEST_CASE("the mismatch checks see it when signatures are not compared") {
  TestCore world;
  const Clients clients = FormGroup(&world, 2);
  SetFailpoint("match.skip_signature", FailpointAction::kMutate, 1);
  WorkRequest wrong = clients[1]->Allreduce("dp");
  wrong.op = ReduceOp::kMax;
  clients[0]->Submit(clients[0]->Allreduce("dp"));
  clients[1]->Submit(wrong);
  world.Settle();
  SetFailpoint("match.skip_signature", FailpointAction::kOff, 1);
  // Exactly what the test above would report.
  CHECK(clients[0]->Ok(1));
}

TEST_CASE("a refused part fails the operation at all ranks, and late ones are told at once") {
  TestCore world;
  const Clients clients = FormGroup(&world, 3);
  WorkRequest wrong = clients[1]->Allreduce("dp");
  wrong.inputs[0].offset = wrong.outputs[0].offset = 1 << 20;
  const WorkNumber refused = clients[1]->Submit(wrong);
  REQUIRE(clients[1]->Done(refused));
  CHECK(clients[1]->FailureOf(refused).cause == Cause::kInvalid);
  CHECK(Contains(clients[1]->FailureOf(refused).message, "do not lie in arena"));
  for (const size_t rank : {0, 2}) {
    const WorkNumber work = clients[rank]->Submit(clients[rank]->Allreduce("dp"));
    REQUIRE(clients[rank]->Done(work));
    CHECK(clients[rank]->FailureOf(work) == clients[1]->FailureOf(refused));
  }
  const auto works = SubmitAll(clients);
  world.Settle();
  for (size_t i = 0; i < 3; ++i) CHECK(clients[i]->Ok(works[i]));
}

TEST_CASE("a verdict behind an operation that a rank never passes has a deadline too") {
  TestCore world;
  const Clients clients = FormGroup(&world, 2);
  const auto refused = [&] {
    WorkRequest wrong = clients[0]->Allreduce("dp");
    wrong.inputs[0].arena = 99;
    wrong.timeout = absl::Seconds(1);
    return clients[0]->Submit(wrong);
  };
  CHECK(clients[0]->Done(refused()));
  const WorkNumber behind = refused();
  CHECK_FALSE(clients[0]->Done(behind));
  world.Advance(absl::Seconds(1));
  CHECK(clients[0]->Done(behind));
  CHECK(world.Group("dp")->failure->missing == std::vector<Rank>{1});
}

TEST_CASE("a rank that dies before it submits fails the work of the others, by name") {
  TestCore world;
  const Clients clients = FormGroup(&world, 4);
  for (const size_t rank : {0, 1, 3}) clients[rank]->Submit(clients[rank]->Allreduce("dp"));
  clients[2]->Die();
  for (const size_t rank : {0, 1, 3}) {
    REQUIRE(clients[rank]->Done(1));
    const Failure& failure = clients[rank]->FailureOf(1);
    CHECK(failure.cause == Cause::kRankDied);
    CHECK(failure.culprits == std::vector<Rank>{2});
    CHECK(failure.sequence == 1);
    CHECK(Contains(failure.message, "rank 2 (session 3, pid 102) died"));
    // What every later call returns.
    const WorkNumber later = clients[rank]->Submit(clients[rank]->Allreduce("dp"));
    REQUIRE(clients[rank]->Done(later));
    CHECK(clients[rank]->FailureOf(later) == failure);
  }
  CHECK(world.Group("dp")->state == GroupState::kFailed);
}

TEST_CASE("a work that all ranks have submitted survives the death of one") {
  TestCore world;
  const Clients clients = FormGroup(&world, 3);
  const auto works = SubmitAll(clients);
  const WorkNumber next = clients[0]->Submit(clients[0]->Allreduce("dp", 1));
  clients[1]->Die();
  // In order: the next work may not overtake the one that runs.
  CHECK_FALSE(clients[0]->Done(next));
  world.Settle();
  for (const size_t rank : {0, 2}) {
    CHECK(clients[rank]->Ok(works[rank]));
    CHECK(clients[rank]->AllEqual(0, 6));
  }
  CHECK(clients[0]->FailureOf(next).culprits == std::vector<Rank>{1});
  CHECK(clients[0]->order == std::vector<WorkNumber>{1, 2});
}

TEST_CASE("the same-verdict check sees it when one rank is told otherwise") {
  TestCore world;
  const Clients clients = FormGroup(&world, 3);
  for (const size_t rank : {0, 1}) clients[rank]->Submit(clients[rank]->Allreduce("dp"));
  SetFailpoint("complete.split_verdict", FailpointAction::kMutate, 2);
  clients[2]->Die();
  SetFailpoint("complete.split_verdict", FailpointAction::kOff, 1);
  CHECK_FALSE(clients[0]->completions.at(1).failure == clients[1]->completions.at(1).failure);
}

TEST_CASE("a deadline names who has not come, and what it does") {
  TestCore world;
  const Clients clients = FormGroup(&world, 4);
  const auto submit = [&](Rank rank) {
    WorkRequest work = clients[rank]->Allreduce("dp");
    work.timeout = absl::Seconds(2);
    clients[rank]->Submit(work);
  };
  // Rank 1 idles, rank 2 is in another group, rank 3 is stopped.
  clients[0]->Join("other", 0, 2);
  clients[2]->Join("other", 1, 2);
  clients[2]->Submit(clients[2]->Barrier("other"));
  world.processes.states[103] = ProcessState::kStopped;
  submit(0);
  world.Advance(absl::Milliseconds(1999));
  CHECK_FALSE(clients[0]->Done(1));
  world.Advance(absl::Milliseconds(1));
  REQUIRE(clients[0]->Done(1));
  const Failure& failure = clients[0]->FailureOf(1);
  CHECK(failure.cause == Cause::kDeadline);
  CHECK(failure.missing == std::vector<Rank>{1, 2, 3});
  INFO(failure.message);
  CHECK(Contains(failure.message, "rank 1 (pid 101) is idle for 2s"));
  CHECK(Contains(failure.message, "rank 2 (pid 102) is in barrier #1 of group \"other\""));
  CHECK(Contains(failure.message, "rank 3 (pid 103) is stopped"));
  // It ends the group: late ranks get the same.
  submit(1);
  CHECK(clients[1]->FailureOf(1) == failure);
}

TEST_CASE("the earliest deadline among the ranks rules, and only until they are complete") {
  TestCore world;
  const Clients clients = FormGroup(&world, 2);
  WorkRequest impatient = clients[1]->Allreduce("dp");
  impatient.timeout = absl::Seconds(1);
  clients[0]->Submit(clients[0]->Allreduce("dp"));
  clients[1]->Submit(impatient);
  // A worker takes its time: that is no rank's fault.
  world.loop.Advance(absl::Minutes(10));
  CHECK_FALSE(clients[0]->Done(1));
  world.Settle();
  CHECK(clients[0]->Ok(1));
}

TEST_CASE("an unmatched recv is only withdrawn") {
  TestCore world;
  const Clients clients = FormGroup(&world, 2);
  WorkRequest recv = clients[1]->Recv("dp", 0);
  recv.timeout = absl::Seconds(1);
  const WorkNumber withdrawn = clients[1]->Submit(recv);
  world.Advance(absl::Seconds(1));
  REQUIRE(clients[1]->Done(withdrawn));
  CHECK(clients[1]->FailureOf(withdrawn).cause == Cause::kDeadline);
  CHECK(clients[1]->FailureOf(withdrawn).missing == std::vector<Rank>{0});
  const WorkNumber again = clients[1]->Submit(clients[1]->Recv("dp", 0));
  const WorkNumber send = clients[0]->Submit(clients[0]->Send("dp", 1));
  world.Settle();
  CHECK(clients[0]->Ok(send));
  CHECK(clients[1]->Ok(again));
}

TEST_CASE("who leaves has its submitted works completed, and is named to those who go on") {
  TestCore world;
  const Clients clients = FormGroup(&world, 3);
  clients[0]->Submit(clients[0]->Allreduce("dp"));
  const MembershipId member = clients[0]->MemberOf("dp");
  int left = 0;
  for (int i = 0; i < 2; ++i) {
    world.core->Leave(clients[0]->session, member, 1,
                      [&](const std::optional<Failure>& failure) { left += failure ? 100 : 1; });
  }
  world.SettleLoop();
  CHECK(left == 2);
  for (const size_t rank : {1, 2}) {
    clients[rank]->Submit(clients[rank]->Allreduce("dp"));
    clients[rank]->Submit(clients[rank]->Allreduce("dp", 1));
  }
  world.Settle();
  CHECK(clients[0]->Ok(1));
  for (const size_t rank : {1, 2}) {
    CHECK(clients[rank]->Ok(1));
    CHECK(clients[rank]->FailureOf(2).cause == Cause::kRankLeft);
    CHECK(clients[rank]->FailureOf(2).culprits == std::vector<Rank>{0});
  }
  CHECK(world.Group("dp")->state == GroupState::kClosed);
}

TEST_CASE("a work has one verdict, also for who submits it after a rank has left") {
  TestCore world;
  const Clients clients = FormGroup(&world, 4);
  clients[0]->Submit(clients[0]->Allreduce("dp"));
  for (int i = 0; i < 2; ++i) clients[2]->Submit(clients[2]->Allreduce("dp"));
  world.core->Leave(clients[0]->session, clients[0]->MemberOf("dp"), 1, [](const auto&) {});
  world.SettleLoop();
  // The first can still be completed, until this.
  CHECK_FALSE(clients[2]->Done(1));
  clients[1]->Die();
  for (int i = 0; i < 3; ++i) clients[3]->Submit(clients[3]->Allreduce("dp"));
  world.Settle();
  CHECK(clients[2]->FailureOf(1).culprits == std::vector<Rank>{1});
  CHECK(clients[2]->FailureOf(2).culprits == std::vector<Rank>{0});
  for (const WorkNumber work : {1, 2}) {
    CHECK(clients[3]->FailureOf(work).message == clients[2]->FailureOf(work).message);
    CHECK(clients[3]->FailureOf(work) == clients[2]->FailureOf(work));
  }
  CHECK(clients[3]->FailureOf(3) == clients[3]->FailureOf(2));
}

TEST_CASE("leaving waits for the works that it has overtaken") {
  TestCore world;
  const Clients clients = FormGroup(&world, 2);
  bool left = false;
  world.core->Leave(clients[0]->session, clients[0]->MemberOf("dp"), 2,
                    [&](const std::optional<Failure>&) { left = true; });
  clients[0]->Submit(clients[0]->Barrier("dp"));
  world.SettleLoop();
  CHECK_FALSE(left);
  clients[0]->Submit(clients[0]->Barrier("dp"));
  for (int i = 0; i < 3; ++i) clients[1]->Submit(clients[1]->Barrier("dp"));
  world.Settle();
  CHECK(left);
  CHECK(clients[0]->Ok(2));
  CHECK(clients[1]->Ok(2));
  CHECK(clients[1]->FailureOf(3).cause == Cause::kRankLeft);
}

TEST_CASE("a backend's error ends the epoch at all ranks") {
  TestCore world;
  const Clients clients = FormGroup(&world, 2);
  world.script.next_status = absl::DataLossError("broken");
  const auto works = SubmitAll(clients);
  const WorkNumber next = clients[0]->Submit(clients[0]->Allreduce("dp", 1));
  world.Settle();
  for (const size_t rank : {0, 1}) {
    CHECK(clients[rank]->FailureOf(works[rank]).cause == Cause::kBackend);
  }
  CHECK(clients[0]->FailureOf(next).cause == Cause::kBackend);
}

TEST_CASE("what is shown: pending operations, ranks, and what ended") {
  TestCore world;
  const Clients clients = FormGroup(&world, 3);
  for (int i = 0; i < 6; ++i) {
    SubmitAll(clients);
    world.Settle();
  }
  clients[1]->Submit(clients[1]->Allreduce("dp"));
  const auto shown = world.Group("dp");
  CHECK(shown->ops_done == 6);
  CHECK(shown->recent.size() == 4);  // recorder_ops_max
  CHECK(shown->recent[0].sequence == 6);
  CHECK(shown->recent[0].state == WorkState::kDone);
  REQUIRE(shown->pending.size() == 1);
  CHECK(shown->pending[0].arrived == std::vector<Rank>{1});
  CHECK(shown->pending[0].missing == std::vector<Rank>{0, 2});
  CHECK(shown->ranks[0].activity == RankActivity::kIdle);
  CHECK(shown->ranks[1].activity == RankActivity::kWaiting);
  CHECK(shown->ranks[1].detail == "in allreduce #7 of group \"dp\"");
}

TEST_CASE("that a group has failed is shown at once, not at the next tick") {
  TestCore world;
  const Clients clients = FormGroup(&world, 2);
  clients[0]->Die();
  const auto& groups = world.core->snapshot()->groups;
  REQUIRE(groups.size() == 1);
  CHECK(groups[0]->state == GroupState::kFailed);
}

TEST_CASE("totals add up whatever happens") {
  TestCore world;
  Clients clients = FormGroup(&world, 3);
  SubmitAll(clients);
  world.Settle();
  clients[0]->Submit(clients[0]->Barrier("dp"));
  clients[1]->Submit(clients[1]->Allreduce("dp"));
  const auto totals = [&] {
    world.Advance(kSnapshotPeriod);
    return world.core->snapshot()->totals;
  };
  CHECK(totals().works_submitted == 5);
  CHECK(totals().works_done == 3);
  CHECK(totals().works_pending() == 2);
  clients[2]->Die();
  CHECK(totals().works_failed == 2);
  CHECK(totals().works_pending() == 0);
}

}  // namespace
}  // namespace tutti
