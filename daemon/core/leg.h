// A communicator over several nodes, with the thread that it blocks.
//
// Connecting, running and destroying may all block, and none of it may block the control loop. A
// Leg is made, used and dropped on the loop; whatever blocks happens on its thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "base/mutex.h"
#include "base/task_runner.h"

namespace tutti {

// Where a thread that connects waits until all nodes have told their addresses.
//
// Thread-safe.
class Meeting {
 public:
  // Blocks until Open or Close.
  absl::StatusOr<std::vector<std::string>> Wait();
  void Open(std::vector<std::string> addresses);
  // It will not take place. The first of Open and Close counts.
  void Close(const std::string& why);

 private:
  void Decide(absl::StatusOr<std::vector<std::string>> outcome);

  Mutex mutex_;
  CondVar changed_;
  std::unique_ptr<const absl::StatusOr<std::vector<std::string>>> outcome_ ABSL_GUARDED_BY(mutex_);
};

class Leg {
 public:
  using MakeRunner = std::function<std::unique_ptr<TaskRunner>(const std::string& name)>;

  struct Services {
    SequencedTaskRunner* loop = nullptr;
    // Where threads are waited for that are needed no more.
    TaskRunner* reaper = nullptr;
    MakeRunner make_runner;
  };

  explicit Leg(Services services);
  // Aborts what runs.
  ~Leg();
  Leg(const Leg&) = delete;
  Leg& operator=(const Leg&) = delete;

  // `spec.meet` is replaced: it calls `enter` on the loop, with this node's address, and waits for
  // Met. `done` is called on the loop, unless this is destroyed before.
  void Connect(Backend* backend, GroupSpec spec, std::function<void(std::string mine)> enter,
               std::function<void(absl::Status)> done);
  void Met(std::vector<std::string> addresses) { meeting_->Open(std::move(addresses)); }

  // Null until it is connected.
  const std::shared_ptr<Communicator>& communicator() const { return communicator_; }

  // For collectives: one at a time, in the order of posting.
  TaskRunner* collectives() const { return collectives_.get(); }
  // For transfers from, or to, node number `node`: likewise.
  TaskRunner* From(size_t node);
  TaskRunner* To(size_t node);

  // What runs returns soon, with an error.
  void Abort();

 private:
  TaskRunner* RunnerIn(std::vector<std::unique_ptr<TaskRunner>>* runners, size_t node,
                       const char* name);

  const Services services_;
  const std::shared_ptr<Meeting> meeting_ = std::make_shared<Meeting>();
  std::shared_ptr<Communicator> communicator_;
  std::unique_ptr<TaskRunner> collectives_;
  std::vector<std::unique_ptr<TaskRunner>> from_;
  std::vector<std::unique_ptr<TaskRunner>> to_;
  // Tasks that the loop holds find this gone after the leg has been destroyed.
  const std::shared_ptr<Leg*> alive_ = std::make_shared<Leg*>(this);
};

}  // namespace tutti
