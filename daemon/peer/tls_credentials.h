// Mutual TLS from a directory whose files may be replaced at any time: what is read there is
// checked before gRPC sees it, and while it is wrong, what was right before stays in force.
//
// Certificates of both sides are required; who calls, and who is called, must be a node of the same
// cluster. TLS 1.2 is the lowest that gRPC speaks here.
//
// Thread-safe, but for construction and destruction; has a thread of its own that looks at the
// files.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/thread.h"
#include "daemon/peer/certificates.h"
#include "daemon/peer/credentials.h"
#include "daemon/peer/staging.h"
#include "daemon/transport/event_loop.h"

namespace tutti {

class TlsCredentials final : public PeerCredentials {
 public:
  struct Options {
    const Clock* clock = nullptr;
    // With ca.pem, node.pem and node.key.
    std::string directory;
    // To be made, in one of this daemon's: on a file system that is memory, since it holds the key.
    std::string staging_directory;
    // How often the files are looked at; gRPC takes another second.
    absl::Duration period = absl::Seconds(5);
  };

  // Fails with kFailedPrecondition if the files are not right, naming the file and what to do, and
  // with kUnavailable or kResourceExhausted.
  static absl::StatusOr<std::unique_ptr<TlsCredentials>> Create(Options options);
  // Outlived by nothing that uses the credentials.
  ~TlsCredentials() override;

  std::shared_ptr<grpc::ServerCredentials> server() override { return server_; }
  std::shared_ptr<grpc::ChannelCredentials> channel() override { return channel_; }
  grpc::Status Admit(const grpc::AuthContext& caller) const override;

  const NodeIdentity& identity() const { return identity_; }

 private:
  TlsCredentials(Options options, std::unique_ptr<Staging> staging, std::unique_ptr<EventLoop> loop,
                 CertificateFiles files, NodeIdentity identity);

  void MakeCredentials();
  // On the own thread.
  void LookAgain();
  absl::Status Reload();

  const Options options_;
  const std::unique_ptr<Staging> staging_;
  const std::unique_ptr<EventLoop> loop_;
  // Which cluster and node this is, from its start to its end.
  const NodeIdentity identity_;
  std::shared_ptr<grpc::ServerCredentials> server_;
  std::shared_ptr<grpc::ChannelCredentials> channel_;
  // Of the own thread.
  CertificateFiles files_;
  std::string last_problem_;
  // Last: it ends before what it uses.
  std::optional<Thread> thread_;
};

}  // namespace tutti
