// The service of clients: seats in groups, and the gRPC lane.
//
// gRPC calls it on its own threads; every call goes on on the control loop and ends there. No
// thread of gRPC ever waits.
#pragma once

#include "daemon/transport/stream_lane.h"
#include "tutti/v1/client.grpc.pb.h"

namespace tutti {

class ClientService final : public v1::ClientService::CallbackService {
 public:
  // Outlives the server, whose calls may end late.
  explicit ClientService(CallServices services) : services_(std::move(services)) {}

  grpc::ServerUnaryReactor* JoinGroup(grpc::CallbackServerContext* context,
                                      const v1::JoinGroupRequest* request,
                                      v1::JoinGroupResponse* response) override;
  grpc::ServerUnaryReactor* LeaveGroup(grpc::CallbackServerContext* context,
                                       const v1::LeaveGroupRequest* request,
                                       v1::LeaveGroupResponse* response) override;
  grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachResponse>* Attach(
      grpc::CallbackServerContext* context) override;

 private:
  const CallServices services_;
};

}  // namespace tutti
