// Whose call this is: the token of the session, in the call's metadata.
//
// Thread-safe: free functions without state.
#pragma once

#include <grpcpp/grpcpp.h>

#include <string>

namespace tutti {

// The token that the call carries; empty if it carries none.
std::string TokenOf(const grpc::CallbackServerContext& context);

// For a call whose token is nobody's: adds the failure's trailer, returns the status to finish
// with.
grpc::Status Unauthenticated(grpc::ServerContextBase* context);

}  // namespace tutti
