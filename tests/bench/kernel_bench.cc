// How near the local backend comes to what the memory of this machine gives: a table per question.
// Asserts nothing.
//
//   bazel run --config=release //tests/bench:kernel_bench [-- allreduce|kinds|types|small...]
//
// Times are the best of many, of contestants that take turns. "wall" is what a user sees, and worth
// something on an idle machine only; "cpu" is the processor time of all threads divided by two, and
// is hardly disturbed by other programs. Ratios are of cpu times.
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "backends/local/local_backend.h"
#include "base/check.h"
#include "base/worker_pool.h"
#include "tests/bench/bare_kernels.h"

namespace tutti {
namespace {

constexpr size_t kThreads = 2;
constexpr size_t kMiB = size_t{1} << 20;
constexpr double kSecondsPerCase = 0.6;

// The variant that was the fastest here, or within 3 % of it, for all numbers of arrays. Null if
// there is none for that number.
bench::Kernel BareKernelFor(size_t arrays) {
  for (const bench::Variant& variant : bench::VariantsFor(arrays)) {
    if (variant.name == "direct, 64-byte lanes x 4") return variant.kernel;
  }
  return nullptr;
}

double Now(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

struct Times {
  double wall = std::numeric_limits<double>::infinity();
  double cpu = std::numeric_limits<double>::infinity();
};

// Buffers as daemon and clients have them: shared pages of 4 KiB, written once.
class Memory {
 public:
  ~Memory() {
    for (const Buffer& buffer : buffers_) munmap(buffer.data, buffer.size_bytes);
  }
  Buffer Make(size_t size_bytes) {
    void* const data = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    TUTTI_CHECK(data != MAP_FAILED);
    std::memset(data, 0, size_bytes);
    buffers_.push_back({.data = static_cast<std::byte*>(data), .size_bytes = size_bytes});
    return buffers_.back();
  }

 private:
  std::vector<Buffer> buffers_;
};

// One thread of the pool, as the daemon does it: it runs the collective, and the other may help.
class Bench {
 public:
  Bench() : pool_("bench", kThreads), backend_(&pool_, kThreads) {}

  // On a thread of the pool; waits for it.
  void OnPool(const std::function<void()>& body) {
    absl::Notification done;
    pool_.Post([&] {
      body();
      done.Notify();
    });
    done.WaitForNotification();
  }

  std::function<void()> Backend(const Collective& collective) {
    GroupSpec spec{.world_size = collective.world_size};
    for (Rank rank = 0; rank < collective.world_size; ++rank) spec.local_ranks.push_back(rank);
    std::shared_ptr<Communicator> communicator = std::move(backend_.Connect(spec)).value();
    return [communicator, collective] { TUTTI_CHECK(communicator->Run(collective).ok()); };
  }

  // The bare kernel on both threads, one half each in pieces of 64 KiB from one counter.
  std::function<void()> Bare(const std::vector<Buffer>& buffers) {
    std::vector<float*> arrays;
    for (const Buffer& buffer : buffers) arrays.push_back(reinterpret_cast<float*>(buffer.data));
    const size_t count = buffers[0].size_bytes / sizeof(float);
    return [this, arrays, count] {
      constexpr size_t kPiece = 16384;
      const bench::Kernel kernel = BareKernelFor(arrays.size());
      std::atomic<size_t> next = 0;
      absl::Notification helped;
      const auto work = [&] {
        for (size_t at = next.fetch_add(kPiece); at < count; at = next.fetch_add(kPiece)) {
          kernel(arrays.data(), arrays.size(), at, std::min(at + kPiece, count));
        }
      };
      pool_.Post([&] {
        work();
        helped.Notify();
      });
      work();
      helped.WaitForNotification();
    };
  }

  // By turns, until each has had its time.
  std::vector<Times> Measure(const std::vector<std::function<void()>>& contestants) {
    std::vector<Times> best(contestants.size());
    const double end = Now(CLOCK_MONOTONIC) + kSecondsPerCase;
    for (int round = 0; round < 5 || (Now(CLOCK_MONOTONIC) < end && round < 2000); ++round) {
      for (size_t i = 0; i < contestants.size(); ++i) {
        OnPool([&] {
          const double wall = Now(CLOCK_MONOTONIC);
          const double cpu = Now(CLOCK_PROCESS_CPUTIME_ID);
          contestants[i]();
          best[i].cpu = std::min(best[i].cpu, (Now(CLOCK_PROCESS_CPUTIME_ID) - cpu) / kThreads);
          best[i].wall = std::min(best[i].wall, Now(CLOCK_MONOTONIC) - wall);
        });
      }
    }
    return best;
  }

 private:
  WorkerPool pool_;
  LocalBackend backend_;
};

struct Spec {
  CollectiveKind kind = CollectiveKind::kAllreduce;
  DataType dtype = DataType::kFloat32;
  ReduceOp op = ReduceOp::kSum;
  uint32_t ranks = 2;
  size_t size_bytes = 0;  // of each buffer
  bool in_place = true;
};

Collective Make(const Spec& spec, Memory* memory) {
  Collective made{.kind = spec.kind,
                  .dtype = spec.dtype,
                  .op = Reduces(spec.kind) ? spec.op : ReduceOp::kNone,
                  .count = spec.size_bytes / SizeOf(spec.dtype),
                  .world_size = spec.ranks};
  const auto list = [&](size_t count) {
    Buffers buffers;
    for (size_t i = 0; i < count; ++i) buffers.push_back(memory->Make(spec.size_bytes));
    return buffers;
  };
  for (Rank rank = 0; rank < spec.ranks; ++rank) {
    // For each kind: inputs and outputs of the root, of others, and what in place means.
    const bool root = rank == 0;
    const size_t n = spec.ranks;
    size_t inputs = 1;
    size_t outputs = 1;
    if (spec.kind == CollectiveKind::kReduce) outputs = root ? 1 : 0;
    if (spec.kind == CollectiveKind::kBroadcast) inputs = root ? 1 : 0;
    if (spec.kind == CollectiveKind::kAllgather) outputs = n;
    if (spec.kind == CollectiveKind::kGather) outputs = root ? n : 0;
    if (spec.kind == CollectiveKind::kScatter) inputs = root ? n : 0;
    if (spec.kind == CollectiveKind::kReduceScatter) inputs = n;
    if (spec.kind == CollectiveKind::kAllToAll) inputs = outputs = n;
    if (spec.kind == CollectiveKind::kSend) (root ? outputs : inputs) = 0;
    Participant participant{.rank = rank, .inputs = list(inputs)};
    if (!spec.in_place || inputs == 0) {
      participant.outputs = list(outputs);
    } else if (inputs == outputs) {
      participant.outputs = participant.inputs;
    } else if (outputs == n) {
      participant.outputs = list(outputs);
      participant.inputs = {participant.outputs[rank]};
    } else if (outputs == 1) {
      participant.outputs = {participant.inputs[rank]};
    }
    made.participants.push_back(std::move(participant));
  }
  return made;
}

// What one call moves if it does nothing twice: inputs are read, outputs are written, but what is
// copied onto itself is neither.
double Traffic(const Collective& collective) {
  size_t bytes = BytesTouched(collective);
  if (Reduces(collective.kind)) return static_cast<double>(bytes);
  for (const Participant& rank : collective.participants) {
    for (size_t i = 0; i < rank.outputs.size(); ++i) {
      for (size_t k = 0; k < rank.inputs.size(); ++k) {
        const bool list = rank.inputs.size() == rank.outputs.size();
        const bool diagonal = collective.kind != CollectiveKind::kAllToAll || i == rank.rank;
        if (rank.inputs[k].data == rank.outputs[i].data && diagonal && (!list || i == k)) {
          // A source that others copy, too, is read all the same.
          const bool read = collective.kind == CollectiveKind::kAllgather ||
                            collective.kind == CollectiveKind::kBroadcast;
          bytes -= rank.outputs[i].size_bytes * (read ? 1 : 2);
        }
      }
    }
  }
  return static_cast<double>(bytes);
}

std::string SizeName(size_t bytes) {
  if (bytes >= kMiB) return std::to_string(bytes / kMiB) + " MiB";
  return std::to_string(bytes / 1024) + " KiB";
}

void PrintRow(const std::string& what, const Times& times, double traffic, double ratio) {
  std::printf("%-44s wall %9.1f us  cpu %9.1f us  %6.1f GB/s", what.c_str(), times.wall * 1e6,
              times.cpu * 1e6, traffic / times.cpu / 1e9);
  if (ratio > 0) std::printf("  %4.0f %% of bare", ratio * 100);
  std::printf("\n");
  std::fflush(stdout);
}

void BenchAllreduce(Bench* bench) {
  for (const uint32_t ranks : {2, 4, 8, 32}) {
    for (const size_t size_bytes : {kMiB / 16, kMiB / 4, kMiB, 8 * kMiB, 64 * kMiB}) {
      if (ranks == 32 && size_bytes > 8 * kMiB) continue;
      Memory memory;
      const Collective in = Make({.ranks = ranks, .size_bytes = size_bytes}, &memory);
      const Collective out =
          Make({.ranks = ranks, .size_bytes = size_bytes, .in_place = false}, &memory);
      std::vector<std::function<void()>> contestants = {bench->Backend(in), bench->Backend(out)};
      std::vector<Buffer> buffers;
      for (const Participant& rank : in.participants) buffers.push_back(rank.inputs[0]);
      const bool bare = BareKernelFor(ranks) != nullptr;
      if (bare) contestants.push_back(bench->Bare(buffers));
      const std::vector<Times> times = bench->Measure(contestants);
      const double traffic = Traffic(in);
      const std::string name = std::to_string(ranks) + " x " + SizeName(size_bytes);
      if (bare) PrintRow(name + " bare", times[2], traffic, 0);
      PrintRow(name + " in place", times[0], traffic, bare ? times[2].cpu / times[0].cpu : 0);
      PrintRow(name + " out of place", times[1], traffic, bare ? times[2].cpu / times[1].cpu : 0);
    }
  }
}

// Against what their bytes cost the bare kernel on buffers of 64 MiB.
void BenchAgainstBare(Bench* bench, const std::string& name, const Spec& spec) {
  Memory memory;
  const Collective collective = Make(spec, &memory);
  std::vector<Buffer> buffers;
  for (uint32_t i = 0; i < spec.ranks; ++i) buffers.push_back(memory.Make(64 * kMiB));
  const std::vector<Times> times =
      bench->Measure({bench->Backend(collective), bench->Bare(buffers)});
  const double bare_bytes = 2.0 * spec.ranks * 64 * kMiB;
  const double traffic = Traffic(collective);
  PrintRow(name, times[0], traffic, (times[1].cpu / bare_bytes) / (times[0].cpu / traffic));
}

void BenchKinds(Bench* bench) {
  for (const uint32_t ranks : {2, 4, 8}) {
    for (uint8_t number = 1; number <= static_cast<uint8_t>(CollectiveKind::kSend); ++number) {
      const auto kind = static_cast<CollectiveKind>(number);
      const bool lists = kind >= CollectiveKind::kAllgather && kind <= CollectiveKind::kAllToAll;
      if (kind == CollectiveKind::kSend && ranks != 2) continue;
      for (const bool in_place : {true, false}) {
        const Spec spec{.kind = kind,
                        .ranks = ranks,
                        .size_bytes = (lists ? 64 / ranks : 64) * kMiB,
                        .in_place = in_place};
        BenchAgainstBare(bench,
                         std::to_string(ranks) + " x " + SizeName(spec.size_bytes) + " " +
                             NameOf(kind) + (in_place ? " in place" : " out of place"),
                         spec);
      }
    }
  }
}

void BenchTypes(Bench* bench) {
  for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kProduct, ReduceOp::kMax, ReduceOp::kAvg}) {
    for (uint8_t number = 1; number < kDataTypes; ++number) {
      const auto dtype = static_cast<DataType>(number);
      if (dtype == DataType::kBool && op == ReduceOp::kAvg) continue;
      BenchAgainstBare(bench, std::string("4 x 16 MiB ") + NameOf(op) + " of " + NameOf(dtype),
                       {.dtype = dtype, .op = op, .ranks = 4, .size_bytes = 16 * kMiB});
    }
  }
}

// Many at a time: one is too short for the clock.
void BenchSmall(Bench* bench) {
  constexpr int kRuns = 200;
  for (const uint32_t ranks : {2, 8, 32}) {
    for (const size_t size_bytes : {size_t{64}, size_t{8192}}) {
      Memory memory;
      const Collective collective = Make({.ranks = ranks, .size_bytes = size_bytes}, &memory);
      const auto run = bench->Backend(collective);
      const Times times = bench->Measure({[&] {
        for (int i = 0; i < kRuns; ++i) run();
      }})[0];
      std::printf("%2u x %4zu bytes allreduce: %6.2f us per Run\n", ranks, size_bytes,
                  times.wall * 1e6 / kRuns);
    }
  }
}

}  // namespace
}  // namespace tutti

int main(int argc, char** argv) {
  tutti::Bench bench;
  std::printf("kernels: %s\n", tutti::Kernels().name);
  const auto wanted = [&](const char* name) {
    const auto is_name = [&](const char* argument) { return std::strcmp(argument, name) == 0; };
    return argc == 1 || std::any_of(argv + 1, argv + argc, is_name);
  };
  if (wanted("allreduce")) tutti::BenchAllreduce(&bench);
  if (wanted("kinds")) tutti::BenchKinds(&bench);
  if (wanted("types")) tutti::BenchTypes(&bench);
  if (wanted("small")) tutti::BenchSmall(&bench);
  return 0;
}
