#include "daemon/core/leg.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace tutti {

absl::StatusOr<std::vector<std::string>> Meeting::Wait() {
  MutexLock lock(&mutex_);
  while (outcome_ == nullptr) changed_.Wait(&mutex_);
  return *outcome_;
}

void Meeting::Open(std::vector<std::string> addresses) { Decide(std::move(addresses)); }

void Meeting::Close(const std::string& why) { Decide(absl::AbortedError(why)); }

void Meeting::Decide(absl::StatusOr<std::vector<std::string>> outcome) {
  MutexLock lock(&mutex_);
  if (outcome_ == nullptr) {
    outcome_ = std::make_unique<absl::StatusOr<std::vector<std::string>>>(std::move(outcome));
  }
  changed_.SignalAll();
}

Leg::Leg(Services services)
    : services_(std::move(services)), collectives_(services_.make_runner("leg")) {}

Leg::~Leg() {
  meeting_->Close("the group will not form");
  Abort();
  // Runners are destroyed by waiting for their threads, and communicators may take their time.
  struct Remains {
    std::shared_ptr<Communicator> communicator;
    std::unique_ptr<TaskRunner> collectives;
    std::vector<std::unique_ptr<TaskRunner>> from;
    std::vector<std::unique_ptr<TaskRunner>> to;
    ~Remains() {
      collectives.reset();
      from.clear();
      to.clear();
    }
  };
  auto remains = std::make_shared<Remains>();
  remains->communicator = std::move(communicator_);
  remains->collectives = std::move(collectives_);
  remains->from = std::move(from_);
  remains->to = std::move(to_);
  services_.reaper->Post([remains = std::move(remains)]() mutable { remains.reset(); });
}

void Leg::Connect(Backend* backend, GroupSpec spec, std::function<void(std::string mine)> enter,
                  std::function<void(absl::Status)> done) {
  const std::weak_ptr weak(alive_);
  spec.meet = [weak, meeting = meeting_, loop = services_.loop,
               enter = std::move(enter)](std::string mine) {
    loop->Post([weak, enter, mine = std::move(mine)] {
      if (weak.lock() != nullptr) enter(mine);
    });
    return meeting->Wait();
  };
  collectives_->Post([weak, loop = services_.loop, reaper = services_.reaper, backend,
                      spec = std::move(spec), done = std::move(done)] {
    auto connected = backend->Connect(spec);
    std::shared_ptr<Communicator> communicator;
    if (connected.ok()) communicator = *std::move(connected);
    loop->Post([weak, reaper, communicator = std::move(communicator), status = connected.status(),
                done]() mutable {
      const auto alive = weak.lock();
      if (alive == nullptr) {
        reaper->Post([communicator = std::move(communicator)]() mutable { communicator.reset(); });
        return;
      }
      (*alive)->communicator_ = std::move(communicator);
      done(status);
    });
  });
}

TaskRunner* Leg::From(size_t node) { return RunnerIn(&from_, node, "from"); }

TaskRunner* Leg::To(size_t node) { return RunnerIn(&to_, node, "to"); }

TaskRunner* Leg::RunnerIn(std::vector<std::unique_ptr<TaskRunner>>* runners, size_t node,
                          const char* name) {
  if (runners->size() <= node) runners->resize(node + 1);
  std::unique_ptr<TaskRunner>& runner = (*runners)[node];
  if (runner == nullptr) runner = services_.make_runner(absl::StrCat(name, node));
  return runner.get();
}

void Leg::Abort() {
  if (communicator_ != nullptr) communicator_->Abort();
}

}  // namespace tutti
