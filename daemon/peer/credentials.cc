#include "daemon/peer/credentials.h"

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

namespace tutti {

std::shared_ptr<grpc::ServerCredentials> ServerCredentialsOf(PeerCredentials* credentials) {
  return credentials == nullptr ? grpc::InsecureServerCredentials() : credentials->server();
}

std::shared_ptr<grpc::ChannelCredentials> ChannelCredentialsOf(PeerCredentials* credentials) {
  return credentials == nullptr ? grpc::InsecureChannelCredentials() : credentials->channel();
}

}  // namespace tutti
