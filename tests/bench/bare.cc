// Contestant: the bare kernel, in one process with one or two threads.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/thread.h"
#include "tests/bench/bare_kernels.h"
#include "tests/bench/barrier.h"
#include "tests/bench/serve.h"

namespace tutti::bench {
namespace {

constexpr uint32_t kThreads = 2;

// Elements of each buffer that a thread takes at a time, 64 KiB: what one of two threads is ahead
// at the end is small against 1 MiB, and the counter costs nothing.
constexpr size_t kChunk = 16384;

// How often each variant runs before the best is taken.
constexpr int kTrials = 5;

// In all buffers together: what one thread never moves faster than two.
constexpr size_t kAlwaysParallelBytes = 16 << 20;

// Each buffer starts this much further behind the start of its pages, since those that start alike
// would compete for the same sets of the caches.
constexpr size_t kStaggerBytes = 4096 + 64;

// A second thread that runs what it is given. It spins a while for the next task, then sleeps.
class Helper {
 public:
  Helper() : thread_("bare_helper", [this] { Loop(); }) {}
  ~Helper() {
    stop_ = true;
    Start();
  }
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

  void set_task(std::function<void()> task) { task_ = std::move(task); }

  void Start() {
    started_.fetch_add(1);
    started_.notify_one();
  }

  void Join() {
    while (finished_.load() != started_.load()) __builtin_ia32_pause();
  }

 private:
  static constexpr int kSpinsMax = 20'000;

  void Loop() {
    for (uint32_t number = 0;; ++number) {
      for (int spin = 0; spin < kSpinsMax && started_.load() == number; ++spin) {
        __builtin_ia32_pause();
      }
      started_.wait(number);
      if (stop_) return;
      task_();
      finished_.fetch_add(1);
    }
  }

  std::function<void()> task_;
  std::atomic<uint32_t> started_ = 0;
  std::atomic<uint32_t> finished_ = 0;
  std::atomic<bool> stop_ = false;
  // Last: it uses all others.
  Thread thread_;
};

// Memory of its own mapping, in pages of 4 KiB or, if the kernel has them, of 2 MiB.
class Pages {
 public:
  Pages(size_t bytes, bool huge) : bytes_(bytes) {
    void* const data =
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) Die("out of memory");
    madvise(data, bytes_, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    data_ = static_cast<float*>(data);
  }
  ~Pages() { munmap(data_, bytes_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  float* data() const { return data_; }

 private:
  const size_t bytes_;
  float* data_ = nullptr;
};

class Bare : public Contestant {
 public:
  explicit Bare(uint32_t buffers) : buffers_(buffers), variants_(VariantsFor(buffers)) {
    helper_.set_task([this] { TakeChunks(); });
  }

  bool Supports(Operation operation) const override {
    return operation == Operation::kAllReduce && !variants_.empty();
  }

  void Allocate(Operation, size_t bytes) override {
    count_ = bytes / sizeof(float);
    Choose();
    SetPages(huge_);
  }

  void Fill() override {
    for (uint32_t b = 0; b < buffers_; ++b) {
      for (size_t i = 0; i < count_; ++i) data_[b][i] = InputValue(b, 0, i);
    }
  }

  void Run() override {
    if (!parallel_) {
      variant_.kernel(data_.data(), buffers_, 0, count_);
      return;
    }
    next_ = 0;
    helper_.Start();
    TakeChunks();
    helper_.Join();
  }

  std::string Check() override {
    for (const float* const buffer : data_) {
      for (size_t i = 0; i < count_; ++i) {
        if (buffer[i] != ResultValue(Operation::kAllReduce, {.world_size = buffers_}, 0, i)) {
          return absl::StrCat(variant_.name, ", element ", i, ": ", buffer[i]);
        }
      }
    }
    return "";
  }

  void Evict() const override {
    for (const float* const buffer : data_) bench::Evict(buffer, count_ * sizeof(float));
  }

  void Drop() override {
    pages_.clear();
    data_.clear();
  }

  std::string Note() const override {
    return absl::StrCat(variant_.name, ", ", parallel_ ? kThreads : 1, " threads, ",
                        huge_ ? "huge" : "4 KiB", " pages");
  }

 private:
  void TakeChunks() {
    for (;;) {
      const size_t begin = next_.fetch_add(kChunk);
      if (begin >= count_) return;
      variant_.kernel(data_.data(), buffers_, begin, std::min(begin + kChunk, count_));
    }
  }

  void SetPages(bool huge) {
    Drop();
    for (uint32_t b = 0; b < buffers_; ++b) {
      const size_t stagger = b * kStaggerBytes;
      pages_.push_back(std::make_unique<Pages>(count_ * sizeof(float) + stagger, huge));
      data_.push_back(pages_.back()->data() + stagger / sizeof(float));
    }
    Fill();
  }

  // Tries all variants, and keeps the one with the best median.
  void Choose() {
    Variant best;
    bool best_parallel = false;
    bool best_huge = false;
    double best_ns = 0;
    for (const bool huge : {false, true}) {
      SetPages(huge);
      for (const bool parallel : {false, true}) {
        if (!parallel && buffers_ * count_ * sizeof(float) > kAlwaysParallelBytes) continue;
        parallel_ = parallel;
        for (const Variant& variant : variants_) {
          variant_ = variant;
          const double median_ns = MedianNs();
          if (best.kernel != nullptr && median_ns >= best_ns) continue;
          best = variant;
          best_parallel = parallel;
          best_huge = huge;
          best_ns = median_ns;
        }
      }
    }
    variant_ = best;
    parallel_ = best_parallel;
    huge_ = best_huge;
  }

  double MedianNs() {
    using Clock = std::chrono::steady_clock;
    std::vector<double> trials(kTrials);
    Run();
    for (double& trial : trials) {
      const Clock::time_point start = Clock::now();
      Run();
      trial = std::chrono::duration<double, std::nano>(Clock::now() - start).count();
    }
    std::nth_element(trials.begin(), trials.begin() + kTrials / 2, trials.end());
    return trials[kTrials / 2];
  }

  const uint32_t buffers_;
  const std::vector<Variant> variants_;
  Variant variant_;
  bool parallel_ = false;
  bool huge_ = false;
  size_t count_ = 0;
  std::vector<std::unique_ptr<Pages>> pages_;
  std::vector<float*> data_;
  std::atomic<size_t> next_ = 0;
  // Last: its thread uses all others.
  Helper helper_;
};

int Main(int argc, char** argv) {
  const Arguments arguments = ParseArguments(argc, argv);
  Bare bare(arguments.place.world_size);
  return Serve(arguments, 1, "bare kernel, plain memory of one process", bare);
}

}  // namespace
}  // namespace tutti::bench

int main(int argc, char** argv) { return tutti::bench::Main(argc, argv); }
