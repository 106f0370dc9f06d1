// Streams between daemons, as the logic of links sees them: opened here or there, they carry frames
// in order until they break or are ended. Implemented over gRPC (grpc_streams.h), and by tests.
//
// Thread: everything on the control loop. Nothing is heard from within a call of LinkStreams.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "daemon/peer/frames.h"

namespace tutti {

// Never reused, and never 0.
using StreamId = uint64_t;

class LinkStreams {
 public:
  virtual ~LinkStreams() = default;

  // Opens a stream to "host:port" and sends `hello`. It breaks if there is no connection to be had.
  virtual StreamId Dial(const std::string& address, const Hello& hello) = 0;

  // It breaks if it can't keep up. Streams that are gone are ignored, here and below.
  virtual void Send(StreamId stream, LinkFrame frame) = 0;

  // Ends it once everything has been sent, `last` at last. Nothing more is heard of it.
  virtual void End(StreamId stream, std::optional<LinkEnd> last) = 0;

  // The address of this node, without a port, that a stream uses which was opened here and has
  // carried something. Empty if it can't be found out.
  virtual std::string LocalHost(StreamId stream) = 0;
};

class LinkStreamsListener {
 public:
  virtual ~LinkStreamsListener() = default;

  // What it has not heard of is a stream that was opened there.
  virtual void Received(StreamId stream, LinkFrame frame) = 0;

  // The last that is heard of it. `why` is for people.
  virtual void Broke(StreamId stream, const std::string& why) = 0;
};

}  // namespace tutti
