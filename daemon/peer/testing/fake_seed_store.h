// A store for the seed's claim in one thread, which several daemons share: claims lapse by the fake
// clock, answers come as tasks of the loop, and a test takes the store away.
//
// Not thread-safe: the test's thread is the control loop.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/testing/fake_clock.h"
#include "base/testing/manual_task_runner.h"
#include "daemon/peer/seed_store.h"

namespace tutti {

// What all of them see.
class FakeClaim {
 public:
  FakeClaim(FakeClock* its_clock, ManualTaskRunner* its_loop) : clock(its_clock), loop(its_loop) {}

  // Who has it now.
  std::optional<NodeInfo> holder() const { return had() ? node_ : std::nullopt; }
  // As an operator would do.
  void Remove() { node_.reset(); }

  FakeClock* const clock;
  ManualTaskRunner* const loop;
  bool unreachable = false;
  // Answers take that long; what they say is true when they are asked.
  absl::Duration delay;

 private:
  friend class FakeSeedStore;

  bool had() const { return node_.has_value() && clock->Now() < lapses_; }

  std::optional<NodeInfo> node_;
  const void* owner_ = nullptr;
  MonotonicTime lapses_;
  int64_t term_ = 0;
};

class FakeSeedStore final : public SeedStore {
 public:
  explicit FakeSeedStore(FakeClaim* claim) : claim_(claim) {}

  void Look(Done done) override { Reply(See(), std::move(done)); }

  void Claim(const NodeInfo& self, Done done) override {
    const bool first = claim_->term_ == 0;
    const bool take = !cut_off() && !claim_->had();
    if (take) {
      claim_->node_ = self;
      claim_->owner_ = this;
      claim_->lapses_ = claim_->clock->Now() + lasts();
      ++claim_->term_;
    }
    Answer answer = See();
    answer.first = take && first;
    Reply(std::move(answer), std::move(done));
  }

  void Renew(Done done) override {
    if (!cut_off() && ours()) claim_->lapses_ = claim_->clock->Now() + lasts();
    Reply(See(), std::move(done));
  }

  void Resign() override {
    if (!cut_off() && ours()) claim_->Remove();
    ++resigned;
  }
  void Stop() override { stopped_ = true; }

  absl::Duration lasts() const override { return absl::Seconds(5); }
  const std::string& name() const override { return name_; }

  // For this daemon only.
  bool unreachable = false;
  int resigned = 0;

 private:
  bool cut_off() const { return unreachable || claim_->unreachable; }
  bool ours() const { return claim_->had() && claim_->owner_ == this; }

  Answer See() const {
    if (cut_off()) return {.error = "the store is away"};
    Answer answer{.seed = claim_->holder()};
    answer.term = answer.seed.has_value() ? claim_->term_ : 0;
    answer.ours = ours();
    return answer;
  }

  void Reply(Answer answer, Done done) {
    claim_->loop->PostAt(claim_->clock->Now() + claim_->delay,
                         [this, answer = std::move(answer), done = std::move(done)] {
                           if (!stopped_) done(answer);
                         });
  }

  FakeClaim* const claim_;
  const std::string name_ = "a fake store";
  bool stopped_ = false;
};

}  // namespace tutti
