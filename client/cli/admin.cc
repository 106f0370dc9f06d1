#include "client/cli/admin.h"

#include <grpc/support/time.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/socket_paths.h"
#include "base/unique_fd.h"
#include "proto/grpc_library.h"

namespace tutti {
namespace {

// Why connecting to the socket at `path` failed, and the fix.
absl::Status Unreachable(const std::string& path, int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::UnavailableError(
          absl::StrCat("no daemon at ", path, ": the socket does not exist\n",
                       "  start one:                 tuttid\n"
                       "  or say where it is:        --socket_dir DIR, or TUTTI_SOCKET_DIR"));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(absl::StrCat(
          "cannot open ", path, ": permission denied\n",
          "  only the daemon's user and root may use the admin socket (mode 0600); try "
          "sudo"));
    case ECONNREFUSED:
      return absl::UnavailableError(
          absl::StrCat("no daemon at ", path,
                       ": the socket's file is there, but nobody listens\n"
                       "  the daemon has died; start it again: tuttid"));
    case EAGAIN:
      return absl::UnavailableError(
          absl::StrCat("the daemon at ", path,
                       " does not take connections: too many wait already\n"
                       "  it is stopped or overloaded"));
    default:
      return absl::UnavailableError(absl::StrCat("cannot open ", path, ": ", std::strerror(error)));
  }
}

// Connects and hangs up. Returns the daemon's process id, 0 if it can't be seen from here.
absl::StatusOr<int> Probe(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is too long for a Unix socket"));
  }
  path.copy(address.sun_path, path.size());
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return Unreachable(path, errno);
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return Unreachable(path, errno);
  }
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return 0;
  return std::max(peer.pid, 0);
}

// True if the process is stopped by a signal or a debugger.
bool IsStopped(int pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string stat;
  std::getline(file, stat);
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos || name_end + 2 >= stat.size()) return false;
  const char state = stat[name_end + 2];
  return state == 'T' || state == 't';
}

std::string Silence(const std::string& path, int pid, absl::Duration timeout) {
  const std::string text = absl::StrCat("the daemon at ", path, " does not answer within ",
                                        absl::FormatDuration(timeout), "\n  ");
  if (pid == 0) return absl::StrCat(text, "it is stopped or overloaded; try --timeout 10s");
  if (IsStopped(pid)) {
    return absl::StrCat(text, "its process is stopped; let it go on: kill -CONT ", pid);
  }
  return absl::StrCat(text, "its process (pid ", pid,
                      ") is overloaded or stuck; try --timeout 10s, or look at it: gdb -p ", pid);
}

}  // namespace

absl::StatusOr<Admin> Admin::Connect(const std::string& socket_dir, absl::Duration timeout) {
  std::string path = AdminSocketPath(socket_dir);
  const absl::StatusOr<int> pid = Probe(path);
  if (!pid.ok()) return pid.status();
  return Admin(std::move(path), *pid, timeout);
}

Admin::Admin(std::string socket_path, int pid, absl::Duration timeout)
    : socket_path_(std::move(socket_path)),
      pid_(pid),
      timeout_(timeout),
      deadline_(RealClock().Now() + timeout) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // A screen of 1000 groups with long names is larger than gRPC's default of 4 MiB.
  arguments.SetMaxReceiveMessageSize(64 << 20);
  KeepGrpcInitialized();
  const auto channel = grpc::CreateCustomChannel(GrpcTarget(socket_path_),
                                                 grpc::InsecureChannelCredentials(), arguments);
  stub_ = v1::AdminService::NewStub(channel);
  health_ = grpc::health::v1::Health::NewStub(channel);
}

template <typename Response, typename Call>
absl::StatusOr<Response> Admin::Run(const Call& call) {
  grpc::ClientContext context;
  const absl::Duration left = std::max(deadline_ - RealClock().Now(), absl::ZeroDuration());
  context.set_deadline(gpr_time_from_millis(absl::ToInt64Milliseconds(left), GPR_TIMESPAN));
  Response response;
  const grpc::Status status = call(&context, &response);
  if (status.ok()) return response;
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return absl::UnavailableError(Silence(socket_path_, pid_, timeout_));
  }
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    return absl::UnavailableError(
        absl::StrCat("the daemon at ", socket_path_, " hung up: ", status.error_message()));
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

absl::StatusOr<v1::GetStatusResponse> Admin::GetStatus() {
  return Run<v1::GetStatusResponse>([this](auto* context, auto* response) {
    return stub_->GetStatus(context, v1::GetStatusRequest(), response);
  });
}

absl::StatusOr<v1::GetClusterResponse> Admin::GetCluster() {
  return Run<v1::GetClusterResponse>([this](auto* context, auto* response) {
    const int64_t left_ms = absl::ToInt64Milliseconds(deadline_ - RealClock().Now());
    v1::GetClusterRequest request;
    request.set_wait_ms(static_cast<uint32_t>(std::clamp<int64_t>(left_ms / 2, 1, 60'000)));
    return stub_->GetCluster(context, request, response);
  });
}

absl::StatusOr<v1::ListGroupsResponse> Admin::ListGroups() {
  return Run<v1::ListGroupsResponse>([this](auto* context, auto* response) {
    return stub_->ListGroups(context, v1::ListGroupsRequest(), response);
  });
}

absl::StatusOr<v1::GetGroupResponse> Admin::GetGroup(const std::string& name,
                                                     const std::string& name_space) {
  return Run<v1::GetGroupResponse>([&](auto* context, auto* response) {
    v1::GetGroupRequest request;
    request.set_name(name);
    request.set_namespace_(name_space);
    return stub_->GetGroup(context, request, response);
  });
}

absl::StatusOr<v1::ListSessionsResponse> Admin::ListSessions() {
  return Run<v1::ListSessionsResponse>([this](auto* context, auto* response) {
    return stub_->ListSessions(context, v1::ListSessionsRequest(), response);
  });
}

absl::StatusOr<v1::ListOpsResponse> Admin::ListOps(const v1::ListOpsRequest& request) {
  return Run<v1::ListOpsResponse>(
      [&](auto* context, auto* response) { return stub_->ListOps(context, request, response); });
}

absl::StatusOr<v1::DrainResponse> Admin::Drain() {
  return Run<v1::DrainResponse>([this](auto* context, auto* response) {
    return stub_->Drain(context, v1::DrainRequest(), response);
  });
}

absl::StatusOr<grpc::health::v1::HealthCheckResponse> Admin::CheckHealth() {
  return Run<grpc::health::v1::HealthCheckResponse>([this](auto* context, auto* response) {
    return health_->Check(context, grpc::health::v1::HealthCheckRequest(), response);
  });
}

absl::Status Admin::WaitForEnd(absl::Duration timeout) {
  if (pid_ == 0) {
    return absl::UnimplementedError(
        "the daemon's process can't be seen from here (another container?), so its end can't be "
        "awaited");
  }
  const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  if (!process.valid()) {
    if (errno == ESRCH) return absl::OkStatus();
    return absl::UnimplementedError(absl::StrCat("pidfd_open: ", std::strerror(errno)));
  }
  const MonotonicTime deadline = RealClock().Now() + timeout;
  while (true) {
    const int64_t left = absl::ToInt64Milliseconds(deadline - RealClock().Now());
    pollfd end{.fd = process.get(), .events = POLLIN, .revents = 0};
    const int ready = poll(&end, 1, static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30)));
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) {
      return absl::InternalError(absl::StrCat("poll: ", std::strerror(errno)));
    }
    if (left <= 0) {
      return absl::DeadlineExceededError(absl::StrCat(
          "the daemon (pid ", pid_, ") is still draining after ", absl::FormatDuration(timeout)));
    }
  }
}

}  // namespace tutti
