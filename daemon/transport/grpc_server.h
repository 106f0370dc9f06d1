// A gRPC server without a listening port: connections are handed to it (acceptor.h). Health service
// included.
//
// Thread-safe, but for destruction.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "base/unique_fd.h"

namespace tutti {

// gRPC's log goes to ours from now on, from warnings up.
void SetUpGrpcLog();

class GrpcServer {
 public:
  // `service` outlives this. Null if gRPC cannot start.
  static std::unique_ptr<GrpcServer> Start(grpc::Service* service, const std::string& service_name);
  // Shut down before.
  ~GrpcServer();

  // Serves a connection, which must not block. REQUIRES: Shutdown has not been called
  void Serve(UniqueFd connection);

  // What the health service says, for "" and for the service's name.
  void SetServing(bool serving);

  // Ends all calls: waits for `patience`, then cancels. Returns when the last has ended; calls that
  // end on the control loop need that to run meanwhile.
  void Shutdown(absl::Duration patience);

 private:
  GrpcServer(std::unique_ptr<grpc::Server> server, std::string service_name);

  const std::unique_ptr<grpc::Server> server_;
  const std::string service_name_;
};

}  // namespace tutti
