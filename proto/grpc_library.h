// gRPC's process-wide state.
#pragma once

namespace tutti {

// Keeps gRPC's threads and tables until the process ends. Without it the end of the last server or
// channel shuts gRPC down, which waits for its "backup poller": up to 10 s after a write that did
// not fit into a socket. Call before the first channel or server is made; thread-safe, and cheap
// when called again.
void KeepGrpcInitialized();

}  // namespace tutti
