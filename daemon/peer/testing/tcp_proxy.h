// A wire between two daemons that a test can cut, or freeze: as if the machine at its other end
// were stopped, or the network partitioned.
//
// Made, told and destroyed by the test's thread; has one of its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/thread.h"
#include "base/unique_fd.h"

namespace tutti {

class TcpProxy {
 public:
  // From a port of its own on 127.0.0.1 to `port` there.
  explicit TcpProxy(uint16_t port);
  ~TcpProxy();

  std::string address() const;

  // From now on nothing passes, in either direction, not even that an end has closed. Who connects
  // gets no answer.
  void Freeze();
  // Closes all connections, and goes on with new ones.
  void Cut();

 private:
  struct Wire {
    UniqueFd ends[2];
  };

  void Run();
  bool Turn();
  void Accept();
  // False when either end has closed.
  bool Forward(const Wire& wire, int from);
  void Wake();

  const uint16_t target_;
  uint16_t port_ = 0;
  UniqueFd listening_;
  UniqueFd wake_;
  std::atomic<bool> frozen_{false};
  std::atomic<bool> cut_{false};
  std::atomic<bool> stop_{false};
  // Of its thread.
  std::vector<Wire> wires_;
  std::optional<Thread> thread_;
};

}  // namespace tutti
