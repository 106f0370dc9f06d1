// What the two bare exchanges (bare_ring.cc, bare_stream.cc) have in common: all ranks tell a
// server in a process of its own, which counts them, and tells all when the last has come. It is
// what a lane costs that carries messages and does nothing else: no tensors, no groups, no checks.
//
// One program is both: rank `world_size`, one behind the last, is the server, and no contestant. It
// ends when the first of its clients goes, and with the benchmark.
//
// One thread, but where the server says otherwise.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "tests/bench/serve.h"

namespace tutti::bench {

// One rank. The bytes it is asked for mean nothing to it.
class BareExchange : public Contestant {
 public:
  explicit BareExchange(const Place& place) : place_(place) {}

  bool Supports(Operation operation) const final { return operation == Operation::kAllReduce; }
  void Allocate(Operation, size_t) final {}
  void Fill() final { sum_ = 0; }
  void Run() final { sum_ = Exchange(place_.rank + 1); }
  std::string Check() final;
  void Evict() const final {}
  void Drop() final {}

 protected:
  // Sends a token, and returns the sum of all ranks' tokens, which comes when all have sent theirs.
  // So that it shows whether the server waits for all.
  virtual uint64_t Exchange(uint32_t token) = 0;

 private:
  const Place place_;
  uint64_t sum_ = 0;
};

// The other side.
class BareServer {
 public:
  virtual ~BareServer() = default;
  // Returns when the first client has gone.
  virtual void Serve() = 0;
};

// The two halves of a program. Clients are made when the server is ready to accept them; what can't
// be made ends the process.
struct BareProgram {
  std::string description;
  std::function<std::unique_ptr<BareServer>(const Arguments&)> make_server;
  std::function<std::unique_ptr<BareExchange>(const Arguments&)> make_client;
};
int RunBareProgram(int argc, char** argv, const BareProgram& program);

}  // namespace tutti::bench
