// Looks at a cluster that exists in this test only: it says who answers, and when.
#include "daemon/peer/cluster_look.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/testing/fake_clock.h"

namespace tutti {
namespace {

using Strings = std::vector<std::string>;

NodeInfo Named(const std::string& name) {
  return {.id = name + std::string(16 - name.size(), '.'), .name = name, .address = name + ":1"};
}

void Fill(const NodeInfo& node, v1::Node* to) {
  to->set_id(node.id);
  to->set_name(node.name);
  to->set_address(node.address);
}

// Questions wait here until the test, or their deadline, has them answered.
class FakeCalls final : public NodeCalls {
 public:
  struct Question {
    NodeInfo node;
    bool with_others = false;
    MonotonicTime deadline;
    std::function<void(NodeReply)> done;
  };

  void Ask(const NodeInfo& node, bool with_others, MonotonicTime deadline,
           std::function<void(NodeReply)> done) override {
    asked.push_back(node.name);
    if (std::count(refusing.begin(), refusing.end(), node.name) > 0) {
      return done({.why = "Connection refused"});
    }
    open.push_back({node, with_others, deadline, std::move(done)});
    open_max = std::max(open_max, open.size());
  }

  bool IsOpen(const std::string& name) const {
    return std::any_of(open.begin(), open.end(),
                       [&](const auto& q) { return q.node.name == name; });
  }
  Question Take(const std::string& name) {
    const auto found = std::find_if(open.begin(), open.end(),
                                    [&](const Question& each) { return each.node.name == name; });
    REQUIRE(found != open.end());
    Question question = std::move(*found);
    open.erase(found);
    return question;
  }

  Strings asked;
  Strings refusing;  // at once, from within
  std::deque<Question> open;
  size_t open_max = 0;
};

struct World {
  void Start(ClusterLook::Options options = {}) {
    ClusterLook::Start({.clock = &clock,
                        .calls = &calls,
                        .known = &known,
                        .own_status = [](v1::NodeStatus* status) { status->set_version("own"); }},
                       options, [this](v1::GetClusterResponse response) {
                         ++results;
                         result = std::move(response);
                       });
  }

  NodeReply AnswerOf(const NodeInfo& node) {
    NodeReply reply{.kind = NodeReply::Kind::kAnswered};
    Fill(node, reply.answer.mutable_node());
    reply.answer.mutable_status()->set_version("v-" + node.name);
    return reply;
  }
  void Answer(const std::string& name) {
    const auto question = calls.Take(name);
    question.done(AnswerOf(question.node));
  }
  // As the seed, which knows these.
  void AnswerAsSeed(const std::string& name, const Strings& linked, const Strings& lost = {}) {
    const auto question = calls.Take(name);
    CHECK(question.with_others);
    NodeReply reply = AnswerOf(question.node);
    for (const std::string& each : linked) Fill(Named(each), reply.answer.add_linked());
    for (const std::string& each : lost) {
      v1::LostNode* const one = reply.answer.add_lost();
      Fill(Named(each), one->mutable_node());
      one->set_since_ms(12'000);
      one->set_why("broke");
    }
    question.done(std::move(reply));
  }
  // Time passes, and what is due is silent.
  void Wait(absl::Duration time) {
    clock.Advance(time);
    while (true) {
      const auto due = std::find_if(calls.open.begin(), calls.open.end(),
                                    [&](const auto& each) { return each.deadline <= clock.Now(); });
      if (due == calls.open.end()) return;
      calls.Take(due->node.name).done({.why = "no answer"});
    }
  }
  // "a answered", "b silent", in their order.
  Strings Rows() const {
    static const std::map<int, std::string> kNames = {{v1::NODE_STATE_ANSWERED, "answered"},
                                                      {v1::NODE_STATE_SILENT, "silent"},
                                                      {v1::NODE_STATE_LOST, "lost"},
                                                      {v1::NODE_STATE_TOO_OLD, "too old"},
                                                      {v1::NODE_STATE_NOT_ASKED, "not asked"}};
    Strings rows;
    if (!result.has_value()) return {"no result"};
    for (const auto& node : result->nodes()) {
      rows.push_back(node.node().name() + " " + kNames.at(node.state()));
    }
    return rows;
  }

  FakeClock clock;
  FakeCalls calls;
  KnownNodes known{&clock, Named("me")};
  int results = 0;
  std::optional<v1::GetClusterResponse> result;
};

// A world whose daemon has found the seed.
struct Joined : World {
  Joined() {
    known.LinkIsUp(Named("seed"));
    known.SeedIs(Named("seed"));
  }
};

TEST_CASE("the seed says who there is; all are asked; self, seed, others by name, lost ones last") {
  Joined world;
  world.Start();
  CHECK(world.calls.asked == Strings{"seed"});
  world.AnswerAsSeed("seed", {"c", "me", "b"}, {"x"});
  CHECK(world.calls.asked == Strings{"seed", "b", "c"});
  world.Answer("c");
  CHECK(world.results == 0);
  world.Answer("b");
  CHECK(world.results == 1);
  CHECK(world.Rows() ==
        Strings{"me answered", "seed answered", "b answered", "c answered", "x lost"});
  CHECK(world.result->seed_silent().empty());
  CHECK(world.result->nodes(0).self());
  CHECK(world.result->nodes(0).status().version() == "own");
  CHECK_FALSE(world.result->nodes(0).seed());
  CHECK(world.result->nodes(1).seed());
  CHECK(world.result->nodes(1).status().version() == "v-seed");
  CHECK(world.result->nodes(2).status().version() == "v-b");
  CHECK(world.result->nodes(4).since_ms() == 12'000);
  CHECK(world.result->nodes(4).why() == "broke");
}

TEST_CASE("the seed itself asks nobody who there is") {
  World world;
  world.known.SeedIs(Named("me"));
  world.known.LinkIsUp(Named("b"));
  world.known.LinkIsUp(Named("c"));
  world.known.LinkIsDown(Named("c"), {LinkEndReason::kOther, "the connection broke"});
  world.clock.Advance(absl::Seconds(7));
  world.Start();
  world.Answer("b");
  CHECK(world.Rows() == Strings{"me answered", "b answered", "c lost"});
  CHECK(world.result->nodes(0).seed());
  CHECK(world.result->nodes(2).since_ms() == 7000);
  CHECK(world.result->seed_silent().empty());
}

TEST_CASE("who does not answer is silent when time is up, since it was first asked") {
  Joined world;
  world.Start();
  world.AnswerAsSeed("seed", {"b", "c"});
  world.Answer("c");
  world.Wait(absl::Milliseconds(499));
  CHECK(world.results == 0);
  world.Wait(absl::Milliseconds(1));
  CHECK(world.Rows() == Strings{"me answered", "seed answered", "b silent", "c answered"});
  CHECK(world.result->nodes(2).since_ms() == 500);
  CHECK(world.result->nodes(2).why() == "no answer");
  world.Wait(absl::Seconds(2));
  world.Start();
  world.AnswerAsSeed("seed", {"b", "c"});
  world.Answer("c");
  world.Wait(absl::Milliseconds(500));
  CHECK(world.result->nodes(2).since_ms() == 3000);
  // It comes back, and is silent again.
  world.Start();
  world.AnswerAsSeed("seed", {"b"});
  world.Answer("b");
  world.Start();
  world.AnswerAsSeed("seed", {"b"});
  world.Wait(absl::Milliseconds(500));
  CHECK(world.result->nodes(2).since_ms() == 500);
}

TEST_CASE("a silent seed takes half of the time; the rest is for those that are linked here") {
  Joined world;
  world.known.LinkIsUp(Named("b"));
  world.known.LinkIsUp(Named("c"));
  world.known.LinkIsDown(Named("c"), {LinkEndReason::kOther, "the connection broke"});
  world.Start();
  world.Wait(absl::Milliseconds(249));
  CHECK(world.calls.asked == Strings{"seed"});
  world.Wait(absl::Milliseconds(1));
  CHECK(world.calls.asked == Strings{"seed", "b"});
  world.Answer("b");
  CHECK(world.Rows() == Strings{"me answered", "seed silent", "b answered", "c lost"});
  CHECK(world.result->seed_silent() == "no answer");
}

TEST_CASE("a seed that is lost is not asked") {
  Joined world;
  world.known.LinkIsUp(Named("b"));
  world.known.LinkIsDown(Named("seed"), {LinkEndReason::kOther, "the connection broke"});
  world.known.LooksForSeed("the link to the seed is lost");
  world.Start();
  world.Answer("b");
  CHECK(world.calls.asked == Strings{"b"});
  CHECK(world.Rows() == Strings{"me answered", "b answered", "seed lost"});
  CHECK(world.result->nodes(2).seed());
  CHECK(world.result->seed_silent() == "the link to the seed is lost");
}

TEST_CASE("no seed has been found yet: this daemon alone") {
  World world;
  world.Start();
  CHECK(world.Rows() == Strings{"me answered"});
  CHECK_FALSE(world.result->seed_silent().empty());
}

TEST_CASE("too old to say: a node; and the seed, without which only links are known") {
  Joined world;
  world.known.LinkIsUp(Named("b"));
  const auto too_old = [&](const std::string& name) {
    world.calls.Take(name).done({.kind = NodeReply::Kind::kTooOld});
  };
  world.Start();
  SECTION("a node") {
    world.AnswerAsSeed("seed", {"b"});
    too_old("b");
    CHECK(world.Rows() == Strings{"me answered", "seed answered", "b too old"});
    CHECK(world.result->seed_silent().empty());
  }
  SECTION("the seed") {
    too_old("seed");
    world.Answer("b");
    CHECK(world.Rows() == Strings{"me answered", "seed too old", "b answered"});
    CHECK(world.result->seed_silent() == "its version is too old to say");
  }
}

TEST_CASE("whoever is linked here is shown, even if the seed has lost it") {
  Joined world;
  world.known.LinkIsUp(Named("b"));
  world.Start();
  world.AnswerAsSeed("seed", {}, {"b"});
  world.Answer("b");
  CHECK(world.Rows() == Strings{"me answered", "seed answered", "b answered"});
}

TEST_CASE("another daemon at a node's address does not answer for it") {
  Joined world;
  world.Start();
  world.AnswerAsSeed("seed", {"b"});
  world.calls.Take("b").done(world.AnswerOf(Named("z")));
  CHECK(world.Rows() == Strings{"me answered", "seed answered", "b silent"});
  CHECK(world.result->nodes(2).why() == "another daemon is at its address now");
}

TEST_CASE("a bounded number is asked at a time; who is not in time is not asked") {
  Joined world;
  world.Start({.calls_max = 2});
  world.AnswerAsSeed("seed", {"b", "c", "d", "e", "f", "g"});
  CHECK(world.calls.asked == Strings{"seed", "b", "c"});
  world.Answer("c");
  CHECK(world.calls.asked == Strings{"seed", "b", "c", "d"});
  // Refusals from within make room at once.
  world.calls.refusing = {"e", "f"};
  world.Answer("d");
  CHECK(world.calls.asked == Strings{"seed", "b", "c", "d", "e", "f", "g"});
  world.Wait(absl::Milliseconds(500));
  CHECK(world.results == 1);
  CHECK(world.calls.open_max == 2);
  CHECK(world.Rows() == Strings{"me answered", "seed answered", "b silent", "c answered",
                                "d answered", "e silent", "f silent", "g silent"});
  world.Start({.calls_max = 1});
  world.AnswerAsSeed("seed", {"b", "c"});
  world.Wait(absl::Milliseconds(500));
  CHECK(world.Rows() == Strings{"me answered", "seed answered", "b silent", "c not asked"});
}

TEST_CASE("a thousand nodes, all of whom refuse, take no stack; more than the limit are counted") {
  Joined world;
  Strings names;
  for (int i = 0; i < 1000; ++i) names.push_back("n" + std::to_string(1000 + i));
  world.calls.refusing = names;
  world.Start({.nodes_max = 502});
  world.AnswerAsSeed("seed", names);
  CHECK(world.results == 1);
  CHECK(world.result->nodes_size() == 502);
  CHECK(world.result->left_out() == 500);
}

}  // namespace
}  // namespace tutti
