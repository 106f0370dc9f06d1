// A directory of this daemon alone in which a set of certificates is replaced as a whole. gRPC's
// file watcher, which reads it, would end the daemon on an empty file, and refuse every handshake
// while a key and its certificate do not fit.
//
//   <directory>/current -> 3          what gRPC reads; the link is replaced by rename
//   <directory>/3/ca.pem node.pem node.key
//   <directory>/2/...                 until the next: gRPC may just be reading it
//
// Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/peer/certificates.h"

namespace tutti {

class Staging {
 public:
  // Makes the directory, for its owner only, in one that exists; what an earlier daemon has left
  // there is removed. Fails with kUnavailable.
  static absl::StatusOr<std::unique_ptr<Staging>> Create(const std::string& directory);
  // Removes the directory.
  ~Staging();

  // From now on `current` has these. Fails with kUnavailable, and then nothing has changed.
  absl::Status Put(const CertificateFiles& files);

  std::string current() const { return directory_ + "/current"; }

 private:
  explicit Staging(std::string directory) : directory_(std::move(directory)) {}

  const std::string directory_;
  uint64_t generation_ = 0;
};

}  // namespace tutti
