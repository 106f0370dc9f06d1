#include "backends/gloo/gloo_backend.h"

#include <arpa/inet.h>
#include <gloo/transport/device.h>
#include <gloo/transport/tcp/device.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/gloo/gloo_mesh.h"
#include "backends/gloo/topology.h"
#include "backends/local/local_backend.h"
#include "base/unique_fd.h"

namespace tutti {
namespace {

// Whether sockets can be bound to `address`, with any port.
absl::Status CheckAddress(const std::string& address) {
  sockaddr_in v4{.sin_family = AF_INET};
  sockaddr_in6 v6{.sin6_family = AF_INET6};
  const sockaddr* any = nullptr;
  socklen_t size_bytes = 0;
  if (inet_pton(AF_INET, address.c_str(), &v4.sin_addr) == 1) {
    any = reinterpret_cast<const sockaddr*>(&v4);
    size_bytes = sizeof(v4);
  } else if (inet_pton(AF_INET6, address.c_str(), &v6.sin6_addr) == 1) {
    any = reinterpret_cast<const sockaddr*>(&v6);
    size_bytes = sizeof(v6);
  } else {
    return absl::FailedPreconditionError(
        absl::StrCat("\"", address, "\" is not an IPv4 or IPv6 address in numbers"));
  }
  const UniqueFd fd(socket(any->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (fd.valid() && bind(fd.get(), any, size_bytes) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("cannot listen at ", address, ": ", std::strerror(errno)));
}

bool SigpipeIgnored() {
  struct sigaction action {};
  return sigaction(SIGPIPE, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

GlooBackend::GlooBackend(std::string address, const MeshTuning& tuning)
    : address_(std::move(address)), tuning_(tuning), kernels_(Kernels()) {}

GlooBackend::~GlooBackend() = default;

absl::Status GlooBackend::Supports(CollectiveKind kind, DataType dtype, ReduceOp op) const {
  return KernelsSupport(kernels_, "gloo", kind, dtype, op);
}

absl::StatusOr<std::shared_ptr<GlooLoop>> GlooBackend::Loop(const std::string& host) {
  MutexLock lock(&mutex_);
  if (loop_ != nullptr) return loop_;
  const std::string& address = address_.empty() ? host : address_;
  // Gloo crashes on a name that cannot be resolved, and leaks if an address is not this machine's.
  if (absl::Status listens = CheckAddress(address); !listens.ok()) return listens;
  if (!SigpipeIgnored()) return absl::FailedPreconditionError("SIGPIPE is not ignored");
  std::shared_ptr<gloo::transport::Device> device;
  try {
    device = gloo::transport::tcp::CreateDevice(gloo::transport::tcp::attr(address.c_str()));
  } catch (const std::exception& error) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot listen at ", address, ": ", error.what()));
  }
  auto loop = GlooLoop::Create(std::move(device));
  if (loop.ok()) loop_ = *loop;
  return loop;
}

absl::StatusOr<std::unique_ptr<Communicator>> GlooBackend::Connect(const GroupSpec& spec) {
  absl::StatusOr<Topology> topology = Topology::Make(spec);
  if (!topology.ok()) return topology.status();
  if (spec.nodes.size() > 1 && spec.meet == nullptr) {
    return absl::InvalidArgumentError("no way to meet the other nodes");
  }
  auto loop = Loop(spec.host);
  if (!loop.ok()) return loop.status();
  absl::StatusOr<std::unique_ptr<GlooMesh>> mesh = GlooMesh::Connect(*std::move(loop), spec);
  if (!mesh.ok()) return mesh.status();
  return std::make_unique<MeshCommunicator>(*std::move(mesh), *std::move(topology), kernels_,
                                            tuning_);
}

}  // namespace tutti
