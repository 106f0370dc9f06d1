// A thread with a name and an owner. The only place, with worker_pool, that makes threads.
//
// Not thread-safe itself. Destroying it joins: whoever owns it first makes the body return.
#pragma once

#include <functional>
#include <string>
#include <thread>

namespace tutti {

class Thread {
 public:
  // Starts `body`. `name` is cut to 15 bytes, the kernel's limit; it shows in top -H and in gdb.
  Thread(const std::string& name, std::function<void()> body);
  ~Thread();
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

 private:
  std::thread thread_;
};

}  // namespace tutti
