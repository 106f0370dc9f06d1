#include "proto/grpc_status.h"

#include <string_view>

#include "proto/convert.h"
#include "tutti/v1/types.pb.h"

namespace tutti {
namespace {

// 8 KiB hold: the status message, percent-encoded at worst (3 x 512), and the failure as base64
// (4/3 x (1024 + 256 + 2 x 512 ranks of 3 bytes)) = 1536 + 5803, with 800 bytes to spare.
constexpr size_t kStatusBytesMax = 512;
constexpr size_t kMessageBytesMax = 1024;
constexpr int kRanksMax = 512;

// At most `bytes_max` bytes, cut between characters: half a character is no UTF-8, and gRPC and
// protobuf refuse it.
std::string Cut(std::string_view text, size_t bytes_max) {
  if (text.size() <= bytes_max) return std::string(text);
  size_t end = bytes_max;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return std::string(text.substr(0, end));
}

Cause CauseOf(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return Cause::kDeadline;
    case grpc::StatusCode::UNAVAILABLE:
      return Cause::kNodeLost;
    case grpc::StatusCode::INVALID_ARGUMENT:
      return Cause::kInvalid;
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return Cause::kLimit;
    case grpc::StatusCode::UNIMPLEMENTED:
      return Cause::kUnsupported;
    case grpc::StatusCode::CANCELLED:
      return Cause::kWithdrawn;
    case grpc::StatusCode::NOT_FOUND:
    case grpc::StatusCode::UNAUTHENTICATED:  // the session that the token names is gone
      return Cause::kNotFound;
    default:
      return Cause::kInternal;
  }
}

}  // namespace

grpc::Status ToGrpcStatus(const Failure& failure) {
  return grpc::Status(static_cast<grpc::StatusCode>(failure.code()),
                      Cut(failure.message, kStatusBytesMax));
}

std::string FailureTrailer(const Failure& failure) {
  v1::Failure wire = ToProto(failure);
  wire.set_message(Cut(failure.message, kMessageBytesMax));
  if (wire.culprits_size() > kRanksMax) wire.mutable_culprits()->Truncate(kRanksMax);
  if (wire.missing_size() > kRanksMax) wire.mutable_missing()->Truncate(kRanksMax);
  return wire.SerializeAsString();
}

grpc::Status FinishWith(const Failure& failure, grpc::ServerContextBase* context) {
  context->AddTrailingMetadata(kFailureKey, FailureTrailer(failure));
  return ToGrpcStatus(failure);
}

Failure FailureOf(const grpc::Status& status, const grpc::ClientContext& context) {
  const auto& trailers = context.GetServerTrailingMetadata();
  if (const auto it = trailers.find(kFailureKey); it != trailers.end()) {
    v1::Failure wire;
    if (wire.ParseFromArray(it->second.data(), static_cast<int>(it->second.size()))) {
      return FromProto(wire);
    }
  }
  return Failure{.cause = CauseOf(status.error_code()), .message = status.error_message()};
}

}  // namespace tutti
