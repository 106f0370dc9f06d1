#include "daemon/transport/grpc_server.h"

#include <grpc/support/log.h>
#include <grpc/support/time.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_posix.h>

#include <cstring>
#include <utility>

#include "base/log.h"
#include "proto/grpc_library.h"

namespace tutti {
namespace {

// A work with a thousand spans is 30 KiB, everything else far less.
constexpr int kReceiveBytesMax = 256 << 10;

// Of buffers for connections and calls: 4096 idle connections take some 60 MiB.
constexpr size_t kQuotaBytes = 256 << 20;

// Calls of one connection at once: its Attach, and a join per thread. More wait at the client.
constexpr int kStreamsMax = 1024;

// Connections without calls are closed after that: silent ones would be held for ever. Clients
// connect again when they need to.
constexpr int kIdleMs = 10 * 60 * 1000;

void LogGrpc(gpr_log_func_args* args) {
  const char* const slash = std::strrchr(args->file, '/');
  const char* const file = slash == nullptr ? args->file : slash + 1;
  if (args->severity == GPR_LOG_SEVERITY_ERROR) {
    LogWarning("grpc.error at={}:{} message={}", file, args->line, Quoted(args->message));
  } else {
    LogDebug("grpc.log at={}:{} message={}", file, args->line, Quoted(args->message));
  }
}

}  // namespace

void SetUpGrpcLog() {
  gpr_set_log_function(&LogGrpc);
  gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
}

std::unique_ptr<GrpcServer> GrpcServer::Start(grpc::Service* service,
                                              const std::string& service_name) {
  KeepGrpcInitialized();
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ResourceQuota quota(service_name);
  quota.Resize(kQuotaBytes);
  grpc::ServerBuilder builder;
  builder.RegisterService(service)
      .SetResourceQuota(quota)
      .SetMaxReceiveMessageSize(kReceiveBytesMax)
      .AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreamsMax)
      .AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kIdleMs);
  // No keepalive: it would end idle clients, and Python clients that hold the GIL (G-7).
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return nullptr;
  std::unique_ptr<GrpcServer> started(new GrpcServer(std::move(server), service_name));
  started->SetServing(true);
  return started;
}

GrpcServer::GrpcServer(std::unique_ptr<grpc::Server> server, std::string service_name)
    : server_(std::move(server)), service_name_(std::move(service_name)) {}

GrpcServer::~GrpcServer() = default;

void GrpcServer::Serve(UniqueFd connection) {
  grpc::AddInsecureChannelFromFd(server_.get(), connection.Release());
}

void GrpcServer::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* const health = server_->GetHealthCheckService();
  health->SetServingStatus("", serving);
  health->SetServingStatus(service_name_, serving);
}

void GrpcServer::Shutdown(absl::Duration patience) {
  const gpr_timespec span = gpr_time_from_millis(absl::ToInt64Milliseconds(patience), GPR_TIMESPAN);
  server_->Shutdown(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), span));
}

}  // namespace tutti
