// Messages between the nodes of one group: what the algorithms of this folder are written against.
//
// Thread-safe. GlooMesh is the real one; tests have one in memory (testing/fake_mesh.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"

namespace tutti {

class Mesh {
 public:
  // A message that was posted. Whoever holds it keeps its bytes alive; once it is destroyed, the
  // mesh touches them no more. If it is destroyed before Wait has succeeded, nothing more can be
  // exchanged with that node: whoever does so ends the mesh.
  class Message {
   public:
    virtual ~Message() = default;

    // Blocks until the bytes have been received, or until they need no longer be kept. To be called
    // once. Fails with kAborted after Abort, and with kUnavailable, naming the node, if the
    // connection to it is lost, which is noticed within milliseconds of a process's death.
    //
    // There is no deadline: whoever has one calls Abort.
    virtual absl::Status Wait() = 0;
  };

  virtual ~Mesh() = default;

  virtual size_t nodes() const = 0;
  // Which of them this is.
  virtual size_t node() const = 0;

  // Both return at once; what goes wrong is told by Wait. A message is received by the post of the
  // same tag at the other node, and messages of one tag in their order.
  //
  // How long a message was, its receiver is not told. REQUIRES: size_bytes > 0; the receiver's
  // buffer is at least as large as the message (Gloo ends the process otherwise).
  virtual std::unique_ptr<Message> Send(size_t to, uint64_t tag, const std::byte* data,
                                        size_t size_bytes) = 0;
  virtual std::unique_ptr<Message> Receive(size_t from, uint64_t tag, std::byte* data,
                                           size_t size_bytes) = 0;

  // Makes every Wait return soon, here and at all nodes that need something of this one; nothing is
  // sent any more. Does not block. Idempotent.
  virtual void Abort() = 0;
};

}  // namespace tutti
