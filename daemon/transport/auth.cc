#include "daemon/transport/auth.h"

#include "base/failure.h"
#include "proto/grpc_status.h"

namespace tutti {

std::string TokenOf(const grpc::CallbackServerContext& context) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find(kTokenKey);
  if (found == metadata.end()) return "";
  return std::string(found->second.data(), found->second.size());
}

grpc::Status Unauthenticated(grpc::ServerContextBase* context) {
  const Failure failure{.cause = Cause::kNotFound,
                        .message = "the call carries the token of no living session"};
  (void)FinishWith(failure, context);
  // Not the cause's own code: a proxy or a person should see at once what kind of trouble it is.
  return grpc::Status(grpc::StatusCode::UNAUTHENTICATED, failure.message);
}

}  // namespace tutti
