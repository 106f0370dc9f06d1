// Who may speak with this daemon, and how: mutual TLS with certificates of one authority, whose
// owners are nodes of one cluster (certificates.h).
//
// Thread-safe.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>

namespace tutti {

class PeerCredentials {
 public:
  virtual ~PeerCredentials() = default;

  virtual std::shared_ptr<grpc::ServerCredentials> server() = 0;
  virtual std::shared_ptr<grpc::ChannelCredentials> channel() = 0;

  // OK, or kPermissionDenied: its certificate is not that of a node of this cluster.
  virtual grpc::Status Admit(const grpc::AuthContext& caller) const = 0;
};

// Of null: neither encrypted nor authenticated.
std::shared_ptr<grpc::ServerCredentials> ServerCredentialsOf(PeerCredentials* credentials);
std::shared_ptr<grpc::ChannelCredentials> ChannelCredentialsOf(PeerCredentials* credentials);

}  // namespace tutti
