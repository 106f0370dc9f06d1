// For sockets of the control loop, whose peers may be hostile.
//
// A descriptor that comes along with bytes is closed by whoever receives these, and to close one
// may take as long as its owner likes: a TCP socket with SO_LINGER waits for its own peer. Linux
// 6.16 lets a socket refuse descriptors; on older kernels that hole stays.
#pragma once

#include <sys/socket.h>

namespace tutti {

// Nobody can pass a descriptor to this socket from now on, nor to those that it accepts: the sender
// gets EPERM. Returns whether this kernel can do that. Does not block.
inline bool RefuseDescriptors(int socket) {
#ifndef SO_PASSRIGHTS
  constexpr int SO_PASSRIGHTS = 83;
#endif
  const int off = 0;
  return setsockopt(socket, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off)) == 0;
}

}  // namespace tutti
