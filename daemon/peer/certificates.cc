#include "daemon/peer/certificates.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"

namespace tutti {
namespace {

template <auto free>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    free(object);
  }
};
using Bio = std::unique_ptr<BIO, Free<BIO_free>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using Store = std::unique_ptr<X509_STORE, Free<X509_STORE_free>>;
using StoreContext = std::unique_ptr<X509_STORE_CTX, Free<X509_STORE_CTX_free>>;
using Names = std::unique_ptr<GENERAL_NAMES, Free<GENERAL_NAMES_free>>;

absl::Status Wrong(const char* file, std::string_view what) {
  // What OpenSSL has noted is said by `what`, and of no use to a later call.
  ERR_clear_error();
  return absl::InvalidArgumentError(absl::StrCat(file, ": ", std::string(what)));
}

Bio Reading(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

// All certificates of a file, at least one.
absl::StatusOr<std::vector<Certificate>> ParseCertificates(const std::string& pem,
                                                           const char* file) {
  const Bio bio = Reading(pem);
  std::vector<Certificate> parsed;
  while (X509* const one = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) {
    parsed.emplace_back(one);
  }
  // After the last there is no line that begins another: anything else is half a certificate.
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  if (parsed.empty() || !at_end) return Wrong(file, "is no certificate in PEM, or is cut off");
  ERR_clear_error();
  return parsed;
}

// A key with a passphrase is none: nobody is there to type it.
int NoPassphrase(char*, int, int, void*) { return -1; }

std::optional<NodeIdentity> IdentityOf(X509* certificate) {
  const Names names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI) continue;
    const ASN1_IA5STRING* const uri = name->d.uniformResourceIdentifier;
    const std::string text(reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)),
                           static_cast<size_t>(ASN1_STRING_length(uri)));
    if (const auto identity = ParseNodeUri(text)) return identity;
  }
  return std::nullopt;
}

// As the other side will, at `now`.
absl::Status Verify(const std::vector<Certificate>& authorities,
                    const std::vector<Certificate>& chain, std::time_t now) {
  const Store store(X509_STORE_new());
  for (const Certificate& one : authorities) X509_STORE_add_cert(store.get(), one.get());
  STACK_OF(X509)* const between = sk_X509_new_null();
  for (size_t i = 1; i < chain.size(); ++i) sk_X509_push(between, chain[i].get());
  const StoreContext context(X509_STORE_CTX_new());
  X509_STORE_CTX_init(context.get(), store.get(), chain.front().get(), between);
  X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(context.get()), now);
  const bool verified = X509_verify_cert(context.get()) == 1;
  const int error = X509_STORE_CTX_get_error(context.get());
  sk_X509_free(between);
  if (verified) return absl::OkStatus();
  return Wrong("node.pem", absl::StrCat("the authorities of ca.pem do not vouch for it: ",
                                        X509_verify_cert_error_string(error)));
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file.bad() && file.is_open()) return text;
  const std::string problem = absl::StrCat(path, ": ", std::strerror(errno));
  return errno == EACCES ? absl::PermissionDeniedError(problem) : absl::NotFoundError(problem);
}

}  // namespace

absl::StatusOr<CertificateFiles> ReadCertificateFiles(const std::string& directory) {
  const absl::StatusOr<std::string> ca = ReadFile(directory + "/ca.pem");
  if (!ca.ok()) return ca.status();
  const absl::StatusOr<std::string> node = ReadFile(directory + "/node.pem");
  if (!node.ok()) return node.status();
  const absl::StatusOr<std::string> key = ReadFile(directory + "/node.key");
  if (!key.ok()) return key.status();
  return CertificateFiles{.ca = *ca, .node = *node, .key = *key};
}

absl::StatusOr<NodeIdentity> CheckCertificates(const CertificateFiles& files, std::time_t now) {
  ERR_clear_error();
  const auto authorities = ParseCertificates(files.ca, "ca.pem");
  if (!authorities.ok()) return authorities.status();
  const auto chain = ParseCertificates(files.node, "node.pem");
  if (!chain.ok()) return chain.status();
  const Bio bio = Reading(files.key);
  const Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, &NoPassphrase, nullptr));
  if (key == nullptr) return Wrong("node.key", "is no key in PEM without a passphrase");
  if (X509_check_private_key(chain->front().get(), key.get()) != 1) {
    return Wrong("node.key", "is not the key of node.pem");
  }
  if (absl::Status status = Verify(*authorities, *chain, now); !status.ok()) return status;
  const auto identity = IdentityOf(chain->front().get());
  if (!identity.has_value()) {
    return Wrong("node.pem", "names no node: it lacks a URI tutti://cluster/<cluster>/node/<name>");
  }
  return *identity;
}

std::optional<NodeIdentity> ParseNodeUri(std::string_view uri) {
  constexpr std::string_view kCluster = "tutti://cluster/";
  constexpr std::string_view kNode = "/node/";
  if (uri.substr(0, kCluster.size()) != kCluster) return std::nullopt;
  uri.remove_prefix(kCluster.size());
  const size_t slash = uri.find('/');
  if (slash == 0 || slash == std::string_view::npos) return std::nullopt;
  if (uri.substr(slash, kNode.size()) != kNode) return std::nullopt;
  const std::string_view node = uri.substr(slash + kNode.size());
  if (node.empty() || node.find('/') != std::string_view::npos) return std::nullopt;
  return NodeIdentity{.cluster = std::string(uri.substr(0, slash)), .node = std::string(node)};
}

}  // namespace tutti
