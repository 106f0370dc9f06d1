// A Failure as gRPC carries it: a status for everybody, and the whole of it in the trailing
// metadata for programs that know us.
//
// Thread-safe: free functions without state.
#pragma once

#include <grpcpp/grpcpp.h>

#include <string>

#include "base/failure.h"

namespace tutti {

// The session's token, in the initial metadata of each call.
inline constexpr char kTokenKey[] = "tutti-token-bin";

// A serialized tutti.v1.Failure, in the trailing metadata of a failed call.
inline constexpr char kFailureKey[] = "tutti-failure-bin";

// Code and message. gRPC takes at most 8 KiB of metadata per call and kills calls with more, so
// long texts are cut here, as lists of ranks are in FailureTrailer; the message has them as ranges.
grpc::Status ToGrpcStatus(const Failure& failure);

// The value for kFailureKey.
std::string FailureTrailer(const Failure& failure);

// For a server's call: adds the trailer and returns the status to finish with.
grpc::Status FinishWith(const Failure& failure, grpc::ServerContextBase* context);

// For a client's call that has ended with `status`, which is not OK. A failure that no Tutti daemon
// has written (the transport broke, the deadline of the call passed) gets the cause that fits.
Failure FailureOf(const grpc::Status& status, const grpc::ClientContext& context);

}  // namespace tutti
