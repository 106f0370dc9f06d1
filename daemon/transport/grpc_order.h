// What gRPC orders and ThreadSanitizer cannot see, because the system's gRPC is not built for it:
//
//   * a call's handler happens before its reactions, and so does what starts an operation;
//   * all other reactions happen before OnDone.
//
// Thread-safe; without ThreadSanitizer nothing. Only for these two: each line more is a race that
// nobody would find.
#pragma once

#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define TUTTI_TSAN 1
#endif
#endif

#ifdef TUTTI_TSAN
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

namespace tutti {

// Everything so far happens before the reactions of `reactor` that come.
inline void BeforeReactions([[maybe_unused]] void* reactor) {
#ifdef TUTTI_TSAN
  __tsan_release(reactor);
#endif
}

// In a reaction, for as long as it runs.
class InReaction {
 public:
  explicit InReaction(void* reactor) : reactor_(reactor) {
#ifdef TUTTI_TSAN
    __tsan_acquire(reactor_);
#endif
  }
  ~InReaction() { BeforeReactions(reactor_); }
  InReaction(const InReaction&) = delete;
  InReaction& operator=(const InReaction&) = delete;

 private:
  void* const reactor_;
};

}  // namespace tutti
