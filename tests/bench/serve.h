// The side of the benchmark that is the same in all contestants: it takes commands from bench.py,
// and times what the contestant does.
//
//   -> NAME RANK [what it is]           once, when the rank can run operations
//   <- prepare OPERATION BYTES          -> ok ALLOCATE_NS FIRST_NS NOTE | unsupported | wrong WHAT
//   <- run warm|cold SAMPLES BATCH      -> ok NS NS ...      per operation, one figure a sample
//   <- drop                             -> ok                gives the buffers back
//
// A line each, over a Unix socket; the end of the socket ends the process. Between commands a
// process only reads: contestants that are not measured cost nothing.
//
// One thread. What goes wrong is said on stderr, and ends the process.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "tests/bench/operation.h"

namespace tutti::bench {

// How the program was called: NAME RANK WORLD_SIZE CONTROL_SOCKET BARRIER_FILE SCRATCH_FOLDER.
struct Arguments {
  std::string name;
  Place place;
  std::string control;
  std::string barrier;
  std::string scratch;
};
Arguments ParseArguments(int argc, char** argv);

// What is measured. Prepare comes first, then all others any number of times, then Drop.
class Contestant {
 public:
  virtual ~Contestant() = default;
  virtual bool Supports(Operation operation) const = 0;
  // Makes the buffers for `operation`; their content is arbitrary.
  virtual void Allocate(Operation operation, size_t bytes) = 0;
  // Writes the inputs, and what can't be a result to the outputs.
  virtual void Fill() = 0;
  // One operation, from the call to the result.
  virtual void Run() = 0;
  // Empty if the outputs are right after Fill and Run; else what is wrong.
  virtual std::string Check() = 0;
  // Drops the buffers from all caches.
  virtual void Evict() const = 0;
  virtual void Drop() = 0;
  // What it has chosen to do for what is prepared; may be empty.
  virtual std::string Note() const { return ""; }
};

// `parties`: how many processes this contestant has. Returns what main returns.
int Serve(const Arguments& arguments, uint32_t parties, const std::string& description,
          Contestant& contestant);

[[noreturn]] void Die(const std::string& message);

}  // namespace tutti::bench
