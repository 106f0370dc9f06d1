// A contestant of which each process is one rank: knows the buffers, but not where they are nor
// what runs on them.
//
// One thread.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "tests/bench/operation.h"
#include "tests/bench/serve.h"

namespace tutti::bench {

// The parts of one rank. In place, the outputs are the inputs.
struct Buffers {
  std::vector<absl::Span<float>> inputs;
  std::vector<absl::Span<float>> outputs;
};

class RankContestant : public Contestant {
 public:
  explicit RankContestant(const Place& place) : place_(place) {}

  void Allocate(Operation operation, size_t bytes) final;
  void Fill() final;
  void Run() final { RunOperation(operation_); }
  std::string Check() final;
  void Evict() const final;
  void Drop() final;

 protected:
  // Makes the buffers, which live until FreeBuffers.
  virtual Buffers MakeBuffers(const Shape& shape) = 0;
  virtual void FreeBuffers() = 0;
  virtual void RunOperation(Operation operation) = 0;

  // Says that an operation failed. The first of a configuration makes Check say so, and no more is
  // run: other configurations may work. A later one ends the process.
  void Fail(const std::string& message);

  const Place& place() const { return place_; }
  bool is_root() const { return place_.rank == kRoot; }
  // Of the pairs of kSendRecv.
  bool sends() const { return place_.rank % 2 == 0; }
  const Shape& shape() const { return shape_; }
  const Buffers& buffers() const { return buffers_; }

 private:
  const Place place_;
  Operation operation_ = Operation::kAllReduce;
  Shape shape_;
  Buffers buffers_;
  bool checked_ = false;
  std::string failure_;
};

// Buffers in the process's own memory, the parts of a list one after the other: what libraries take
// that know nothing of Tutti's arenas.
class PlainMemory {
 public:
  Buffers Make(const Shape& shape);
  void Free();

  // Null where the rank has none.
  float* inputs() const { return inputs_.get(); }
  float* outputs() const { return outputs_.get(); }

 private:
  struct Freer {
    void operator()(float* memory) const { std::free(memory); }
  };
  using Memory = std::unique_ptr<float, Freer>;

  static Memory MakeMemory(size_t count);

  Memory inputs_;
  Memory outputs_;
};

}  // namespace tutti::bench
