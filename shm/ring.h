// The two ends of one queue of the ring lane (ring_layout.h has the memory and the protocol).
//
// Each end belongs to one thread, or to threads that take turns under a lock. The memory must
// outlive both. `Memory` is what touches it: SharedMemory, or a test's model of a processor.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace tutti {

// Plain x86-64 memory.
struct SharedMemory {
  template <typename T>
  static T Load(T* from) {
    return std::atomic_ref<T>(*from).load(std::memory_order_acquire);
  }
  template <typename T>
  static void Store(T* to, T value) {
    std::atomic_ref<T>(*to).store(value, std::memory_order_release);
  }
  // What was stored before is seen by all before anything is loaded after it.
  static void Fence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
  // Will be loaded soon.
  static void Prefetch(const void* from) { __builtin_prefetch(from); }
};

// Where one queue lies.
template <typename Entry>
struct RingQueue {
  Entry* entries = nullptr;
  uint64_t count = 0;  // a power of two
  uint64_t* tail = nullptr;
  uint64_t* head = nullptr;
  // The consumer's own: 1 while it sleeps, or is about to.
  uint32_t* consumer_sleeps = nullptr;
};

template <typename Entry, typename Memory = SharedMemory>
class RingProducer {
 public:
  // Of a queue in which nothing was ever put.
  explicit RingProducer(const RingQueue<Entry>& queue) : queue_(queue) {}

  enum class Push : uint8_t {
    kDone,
    kFull,    // the consumer has to take some first
    kBroken,  // the consumer claims to have taken what was never put, or to have put some back
  };
  Push TryPush(const Entry& entry) {
    if (tail_ - head_ >= queue_.count) {
      if (!Taken().has_value()) return Push::kBroken;
      if (tail_ - head_ == queue_.count) return Push::kFull;
    }
    queue_.entries[tail_ & (queue_.count - 1)] = entry;
    Memory::Store(queue_.tail, ++tail_);
    return Push::kDone;
  }

  // How many entries the consumer has ever taken; nothing if it claims more than were put, or less
  // than it did before.
  std::optional<uint64_t> Taken() {
    const uint64_t head = Memory::Load(queue_.head);
    if (head - head_ > tail_ - head_) return std::nullopt;
    head_ = head;
    return head;
  }

  // After one or more TryPush: is the consumer to be woken by its doorbell?
  bool MustRing() const {
    Memory::Fence();
    return IsAsleep();
  }

  // The same without the fence: one fence between the last TryPush and this serves many queues.
  bool IsAsleep() const { return Memory::Load(queue_.consumer_sleeps) != 0; }

 private:
  const RingQueue<Entry> queue_;
  uint64_t tail_ = 0;
  uint64_t head_ = 0;  // as last seen
};

template <typename Entry, typename Memory = SharedMemory>
class RingConsumer {
 public:
  explicit RingConsumer(const RingQueue<Entry>& queue) : queue_(queue) {}

  enum class Pop : uint8_t {
    kDone,
    kEmpty,
    kBroken,  // the producer claims to have put more than fits
  };
  // Copies the oldest entry out, and leaves it in the queue. Only the copy may be looked at: the
  // producer, if it is hostile, changes the original at any time.
  Pop TryPeek(Entry* entry) {
    if (head_ == tail_) {
      tail_ = Memory::Load(queue_.tail);
      if (tail_ - head_ > queue_.count) return Pop::kBroken;
      if (tail_ == head_) return Pop::kEmpty;
    }
    *entry = queue_.entries[head_ & (queue_.count - 1)];
    return Pop::kDone;
  }
  // Takes it. REQUIRES: the last TryPeek returned kDone
  void Advance() { Memory::Store(queue_.head, ++head_); }

  // Both at once.
  Pop TryPop(Entry* entry) {
    const Pop popped = TryPeek(entry);
    if (popped == Pop::kDone) Advance();
    return popped;
  }

  // Before TryPeek, if there is something else to do meanwhile: what the other side has written
  // last comes from its processor's cache.
  void Prefetch() const {
    Memory::Prefetch(queue_.tail);
    const Entry* next = &queue_.entries[head_ & (queue_.count - 1)];
    for (size_t at = 0; at < sizeof(Entry); at += kCacheLineBytes) {
      Memory::Prefetch(reinterpret_cast<const char*>(next) + at);
    }
  }

  // Before waiting for the doorbell. False: something came meanwhile, so don't; either way Awake
  // comes next.
  bool MaySleep() {
    Memory::Store(queue_.consumer_sleeps, uint32_t{1});
    Memory::Fence();
    // TryPeek will look again, and whether it can be.
    return head_ == tail_ && Memory::Load(queue_.tail) == head_;
  }
  void Awake() { Memory::Store(queue_.consumer_sleeps, uint32_t{0}); }

 private:
  static constexpr size_t kCacheLineBytes = 64;

  const RingQueue<Entry> queue_;
  uint64_t head_ = 0;
  uint64_t tail_ = 0;  // as last seen
};

}  // namespace tutti
