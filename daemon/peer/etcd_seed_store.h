// The seed's claim in etcd: a key, made with a lease unless it is there.
//
//   PREFIX/seed       who it is, as JSON of tutti.v1.Node; ends with the lease
//   PREFIX/had_seed   stays: there has been one
//
// Speaks etcd's API, version 3, without TLS. Its questions wait on a thread of their own, each for
// a second at most; if one has failed, the next goes to another of the endpoints.
//
// Thread: the control loop.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/task_runner.h"
#include "base/worker_pool.h"
#include "daemon/peer/seed_store.h"

namespace tutti {

class EtcdSeedStore final : public SeedStore {
 public:
  struct Options {
    SequencedTaskRunner* loop = nullptr;
    // "host:port,host:port": members of one etcd cluster.
    std::string endpoints;
    std::string prefix = "/tutti";
    absl::Duration call_timeout = absl::Seconds(1);
    // Whole seconds; etcd itself needs one or two to notice the loss of one of its members.
    absl::Duration lasts = absl::Seconds(5);
  };

  // Connects to nobody yet. Fails with kInvalidArgument if `endpoints` are none.
  static absl::StatusOr<std::unique_ptr<EtcdSeedStore>> Create(Options options);
  // Waits for what is under way. REQUIRES: no task of the loop runs any more.
  ~EtcdSeedStore() override;

  void Look(Done done) override;
  void Claim(const NodeInfo& self, Done done) override;
  void Renew(Done done) override;
  void Resign() override;
  void Stop() override;

  absl::Duration lasts() const override { return options_.lasts; }
  const std::string& name() const override { return name_; }

 private:
  class Etcd;

  explicit EtcdSeedStore(Options options, std::vector<std::string> endpoints);

  void Ask(std::function<Answer(Etcd*)> question, Done done);

  const Options options_;
  const std::string name_;
  const std::unique_ptr<Etcd> etcd_;  // used on the thread only, but for its Stop
  Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  WorkerPool thread_;
};

}  // namespace tutti
