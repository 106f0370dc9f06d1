#include "daemon/peer/tls_credentials.h"

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_certificate_verifier.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace tutti {
namespace {

// How often gRPC looks at what is staged; its lowest.
constexpr unsigned kRefreshSeconds = 1;

bool IsMember(const std::string& cluster, grpc::string_ref uri) {
  const auto identity = ParseNodeUri({uri.data(), uri.size()});
  return identity.has_value() && identity->cluster == cluster;
}

// Of the daemon that was dialled. gRPC has verified who signed its certificate.
class MemberVerifier final : public grpc::experimental::ExternalCertificateVerifier {
 public:
  explicit MemberVerifier(std::string cluster) : cluster_(std::move(cluster)) {}
  ~MemberVerifier() override = default;

  bool Verify(grpc::experimental::TlsCustomVerificationCheckRequest* request,
              std::function<void(grpc::Status)> /*callback*/, grpc::Status* status) override {
    *status = grpc::Status(grpc::StatusCode::PERMISSION_DENIED,
                           absl::StrCat("it is no node of the cluster ", cluster_));
    for (const grpc::string_ref& uri : request->uri_names()) {
      if (IsMember(cluster_, uri)) *status = grpc::Status::OK;
    }
    return true;  // at once
  }
  void Cancel(grpc::experimental::TlsCustomVerificationCheckRequest*) override {}

 private:
  const std::string cluster_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TlsCredentials>> TlsCredentials::Create(Options options) {
  const auto wrong = [&options](const absl::Status& status) {
    return absl::FailedPreconditionError(absl::StrCat("peer_tls_dir ", options.directory, ": ",
                                                      std::string(status.message()),
                                                      "; `tutti certs` makes certificates"));
  };
  absl::StatusOr<CertificateFiles> files = ReadCertificateFiles(options.directory);
  if (!files.ok()) return wrong(files.status());
  absl::StatusOr<NodeIdentity> identity = CheckCertificates(*files, std::time(nullptr));
  if (!identity.ok()) return wrong(identity.status());
  auto staging = Staging::Create(options.staging_directory);
  if (!staging.ok()) return staging.status();
  if (absl::Status status = (*staging)->Put(*files); !status.ok()) return status;
  auto loop = EventLoop::Create(options.clock, "certificates");
  if (!loop.ok()) return loop.status();
  return std::unique_ptr<TlsCredentials>(new TlsCredentials(std::move(options), *std::move(staging),
                                                            *std::move(loop), *std::move(files),
                                                            *std::move(identity)));
}

TlsCredentials::TlsCredentials(Options options, std::unique_ptr<Staging> staging,
                               std::unique_ptr<EventLoop> loop, CertificateFiles files,
                               NodeIdentity identity)
    : options_(std::move(options)),
      staging_(std::move(staging)),
      loop_(std::move(loop)),
      identity_(std::move(identity)),
      files_(std::move(files)) {
  MakeCredentials();
  LogInfo("peer.tls cluster={} node={}", Quoted(identity_.cluster), Quoted(identity_.node));
  loop_->PostAt(options_.clock->Now() + options_.period, [this] { LookAgain(); });
  thread_.emplace("certificates", [this] { loop_->Run(); });
}

TlsCredentials::~TlsCredentials() { loop_->Stop(); }

void TlsCredentials::MakeCredentials() {
  namespace tls = grpc::experimental;
  const std::string current = staging_->current();
  const auto provider = std::make_shared<tls::FileWatcherCertificateProvider>(
      current + "/node.key", current + "/node.pem", current + "/ca.pem", kRefreshSeconds);

  tls::TlsServerCredentialsOptions server(provider);
  server.watch_root_certs();
  server.watch_identity_key_cert_pairs();
  server.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  server_ = tls::TlsServerCredentials(server);

  tls::TlsChannelCredentialsOptions channel;
  channel.set_certificate_provider(provider);
  channel.watch_root_certs();
  channel.watch_identity_key_cert_pairs();
  channel.set_verify_server_certs(true);
  channel.set_check_call_host(false);
  channel.set_certificate_verifier(
      tls::ExternalCertificateVerifier::Create<MemberVerifier>(identity_.cluster));
  channel_ = tls::TlsCredentials(channel);
}

grpc::Status TlsCredentials::Admit(const grpc::AuthContext& caller) const {
  for (const grpc::string_ref& uri : caller.FindPropertyValues(GRPC_PEER_URI_PROPERTY_NAME)) {
    if (IsMember(identity_.cluster, uri)) return grpc::Status::OK;
  }
  return {grpc::StatusCode::PERMISSION_DENIED,
          absl::StrCat("only nodes of the cluster ", identity_.cluster, " may speak to it")};
}

void TlsCredentials::LookAgain() {
  const absl::Status status = Reload();
  if (!status.ok() && last_problem_ != status.message()) {
    LogWarning("peer.tls.kept dir={} why={}", Quoted(options_.directory),
               Quoted(std::string(status.message())));
  }
  last_problem_ = std::string(status.message());
  loop_->PostAt(options_.clock->Now() + options_.period, [this] { LookAgain(); });
}

absl::Status TlsCredentials::Reload() {
  absl::StatusOr<CertificateFiles> files = ReadCertificateFiles(options_.directory);
  if (!files.ok()) return files.status();
  if (*files == files_) return absl::OkStatus();
  const absl::StatusOr<NodeIdentity> identity = CheckCertificates(*files, std::time(nullptr));
  if (!identity.ok()) return identity.status();
  if (*identity != identity_) {
    return absl::InvalidArgumentError(absl::StrCat("node.pem: is that of another node, ",
                                                   identity->node, " of ", identity->cluster,
                                                   ": to become that one, restart the daemon"));
  }
  if (absl::Status status = staging_->Put(*files); !status.ok()) return status;
  files_ = *std::move(files);
  LogInfo("peer.tls.renewed dir={}", Quoted(options_.directory));
  return absl::OkStatus();
}

}  // namespace tutti
