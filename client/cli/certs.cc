#include "client/cli/certs.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
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
using Extension = std::unique_ptr<X509_EXTENSION, Free<X509_EXTENSION_free>>;
using Names = std::unique_ptr<GENERAL_NAMES, Free<GENERAL_NAMES_free>>;

constexpr size_t kNameMax = 64;
constexpr char kCurve[] = "P-256";
constexpr char kUriPrefix[] = "tutti://cluster/";
constexpr int64_t kDaySeconds = 24 * 3600;
// The clocks of nodes differ: a certificate that is new here is valid there.
constexpr int64_t kClockSlackSeconds = 300;

absl::Status Problem(const std::string& path, int error) {
  const std::string text = absl::StrCat(path, ": ", std::strerror(error));
  return error == ENOENT ? absl::NotFoundError(text) : absl::UnavailableError(text);
}

absl::Status OpenSslProblem(const char* what) {
  std::array<char, 256> text{};
  ERR_error_string_n(ERR_get_error(), text.data(), text.size());
  ERR_clear_error();
  return absl::UnavailableError(absl::StrCat(what, ": ", text.data()));
}

// Names become parts of a URI and of a path.
absl::Status CheckName(const char* what, const std::string& name) {
  const bool right = !name.empty() && name.size() <= kNameMax && absl::ascii_isalnum(name[0]) &&
                     std::all_of(name.begin(), name.end(), [](char c) {
                       return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
                     });
  if (right) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("'", name, "' is no name of a ", what,
                                                 ": letters, digits, and . _ - between them, ",
                                                 kNameMax, " at most"));
}

// --- Files ---

absl::Status MakeDirectory(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return absl::OkStatus();
  return Problem(path, errno);
}

// The whole of it, or what was there before.
absl::Status WriteFile(const std::string& path, const std::string& text, mode_t mode) {
  const std::string made = path + ".new";
  unlink(made.c_str());
  const int file = open(made.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (file < 0) return Problem(made, errno);
  const ssize_t written = write(file, text.data(), text.size());
  const int error = written < 0 ? errno : ENOSPC;
  const bool closed = close(file) == 0;
  if (!closed || written != static_cast<ssize_t>(text.size())) return Problem(made, error);
  if (std::rename(made.c_str(), path.c_str()) != 0) return Problem(path, errno);
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file.is_open()) return Problem(path, errno);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

template <typename Write>
std::string ToPem(const Write& write) {
  const Bio bio(BIO_new(BIO_s_mem()));
  write(bio.get());
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &bytes);  // NOLINT(google-runtime-int): OpenSSL's
  return std::string(bytes, static_cast<size_t>(size));
}
std::string ToPem(X509* certificate) {
  return ToPem([=](BIO* bio) { PEM_write_bio_X509(bio, certificate); });
}
std::string ToPem(EVP_PKEY* key) {
  return ToPem([=](BIO* bio) {
    PEM_write_bio_PKCS8PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
  });
}

// --- Certificates ---

// What both kinds have: who signs, with which key, and how long it is valid.
struct Draft {
  std::string common_name;
  std::string names;  // subjectAltName, in OpenSSL's words
  bool authority = false;
  int64_t days = 0;
  std::time_t now = 0;
};

bool AddExtension(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str()));
  return extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1;
}

bool FillIn(const Draft& draft, X509* certificate, X509* issuer) {
  std::array<unsigned char, 16> serial{};
  if (RAND_bytes(serial.data(), serial.size()) != 1) return false;
  serial[0] &= 0x7f;  // positive
  BIGNUM* const number = BN_bin2bn(serial.data(), serial.size(), nullptr);
  BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
  BN_free(number);
  std::time_t now = draft.now;
  X509_time_adj_ex(X509_getm_notBefore(certificate), 0, -kClockSlackSeconds, &now);
  X509_time_adj_ex(X509_getm_notAfter(certificate), 0, draft.days * kDaySeconds, &now);
  X509_NAME* const subject = X509_get_subject_name(certificate);
  const auto* const text = reinterpret_cast<const unsigned char*>(draft.common_name.c_str());
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, text, -1, -1, 0);
  X509_set_issuer_name(certificate, X509_get_subject_name(issuer));
  const char* const uses =
      draft.authority ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature";
  return AddExtension(certificate, issuer, NID_basic_constraints,
                      draft.authority ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE") &&
         AddExtension(certificate, issuer, NID_key_usage, uses) &&
         (draft.authority ||
          AddExtension(certificate, issuer, NID_ext_key_usage, "serverAuth,clientAuth")) &&
         AddExtension(certificate, issuer, NID_subject_key_identifier, "hash") &&
         AddExtension(certificate, issuer, NID_authority_key_identifier, "keyid") &&
         AddExtension(certificate, issuer, NID_subject_alt_name, draft.names);
}

// Signed by `issuer`; by itself if that is null.
absl::StatusOr<Certificate> Sign(const Draft& draft, EVP_PKEY* key, X509* issuer,
                                 EVP_PKEY* issuer_key) {
  Certificate certificate(X509_new());
  if (issuer == nullptr) issuer = certificate.get();
  if (X509_set_version(certificate.get(), X509_VERSION_3) != 1 ||
      X509_set_pubkey(certificate.get(), key) != 1 || !FillIn(draft, certificate.get(), issuer) ||
      X509_sign(certificate.get(), issuer_key, EVP_sha256()) == 0) {
    return OpenSslProblem("cannot make a certificate");
  }
  return certificate;
}

// --- The authority ---

struct Authority {
  std::string pem;
  Certificate certificate;
  Key key;
  std::string cluster;
};

std::string ClusterOf(X509* certificate) {
  const Names names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI) continue;
    const ASN1_IA5STRING* const uri = name->d.uniformResourceIdentifier;
    const std::string text(reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)),
                           static_cast<size_t>(ASN1_STRING_length(uri)));
    if (text.rfind(kUriPrefix, 0) == 0) return text.substr(sizeof(kUriPrefix) - 1);
  }
  return "";
}

absl::StatusOr<Authority> ReadAuthority(const std::string& directory) {
  const std::string certificate_path = directory + "/ca.pem";
  const std::string key_path = directory + "/ca.key";
  const auto pem = ReadFile(certificate_path);
  if (!pem.ok()) {
    return absl::NotFoundError(absl::StrCat(std::string(pem.status().message()),
                                            "; make an authority with `tutti certs init`"));
  }
  const auto key_pem = ReadFile(key_path);
  if (!key_pem.ok()) return key_pem.status();
  Authority authority{.pem = *pem};
  const Bio certificate(BIO_new_mem_buf(pem->data(), static_cast<int>(pem->size())));
  authority.certificate.reset(PEM_read_bio_X509(certificate.get(), nullptr, nullptr, nullptr));
  const Bio key(BIO_new_mem_buf(key_pem->data(), static_cast<int>(key_pem->size())));
  authority.key.reset(PEM_read_bio_PrivateKey(key.get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  if (authority.certificate == nullptr || authority.key == nullptr ||
      X509_check_private_key(authority.certificate.get(), authority.key.get()) != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(certificate_path, " and ca.key are no certificate with its key"));
  }
  authority.cluster = ClusterOf(authority.certificate.get());
  if (authority.cluster.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(certificate_path, " names no cluster: `tutti certs init` has not made it"));
  }
  return authority;
}

bool IsIp(const std::string& address) {
  std::array<unsigned char, sizeof(in6_addr)> bytes;
  return inet_pton(AF_INET, address.c_str(), bytes.data()) == 1 ||
         inet_pton(AF_INET6, address.c_str(), bytes.data()) == 1;
}

absl::StatusOr<std::string> AlternativeNames(const Authority& authority,
                                             const NodeOptions& options) {
  std::string names = absl::StrCat("URI:", kUriPrefix, authority.cluster, "/node/", options.name);
  for (const std::string& address : options.addresses) {
    // The text is OpenSSL's to parse: a comma would begin another name.
    if (!IsIp(address)) {
      if (absl::Status status = CheckName("host", address); !status.ok()) return status;
    }
    absl::StrAppend(&names, IsIp(address) ? ",IP:" : ",DNS:", address);
  }
  return names;
}

}  // namespace

absl::Status MakeAuthority(const AuthorityOptions& options) {
  if (absl::Status status = CheckName("cluster", options.cluster); !status.ok()) return status;
  if (absl::Status status = MakeDirectory(options.directory); !status.ok()) return status;
  const std::string certificate_path = options.directory + "/ca.pem";
  if (access(certificate_path.c_str(), F_OK) == 0) {
    return absl::AlreadyExistsError(absl::StrCat(
        certificate_path, " exists: nodes with certificates of it would be shut out by another"));
  }
  const Key key(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", kCurve));
  if (key == nullptr) return OpenSslProblem("cannot make a key");
  const auto certificate = Sign({.common_name = absl::StrCat("Tutti cluster ", options.cluster),
                                 .names = absl::StrCat("URI:", kUriPrefix, options.cluster),
                                 .authority = true,
                                 .days = options.days,
                                 .now = options.now},
                                key.get(), nullptr, key.get());
  if (!certificate.ok()) return certificate.status();
  const absl::Status status = WriteFile(options.directory + "/ca.key", ToPem(key.get()), 0600);
  if (!status.ok()) return status;
  return WriteFile(certificate_path, ToPem(certificate->get()), 0644);
}

absl::Status MakeNode(const NodeOptions& options) {
  if (absl::Status status = CheckName("node", options.name); !status.ok()) return status;
  const absl::StatusOr<Authority> authority = ReadAuthority(options.directory);
  if (!authority.ok()) return authority.status();
  const absl::StatusOr<std::string> names = AlternativeNames(*authority, options);
  if (!names.ok()) return names.status();
  const Key key(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", kCurve));
  if (key == nullptr) return OpenSslProblem("cannot make a key");
  const auto certificate =
      Sign({.common_name = options.name, .names = *names, .days = options.days, .now = options.now},
           key.get(), authority->certificate.get(), authority->key.get());
  if (!certificate.ok()) return certificate.status();
  const std::string directory = absl::StrCat(options.directory, "/", options.name);
  if (absl::Status status = MakeDirectory(directory); !status.ok()) return status;
  for (const auto& [file, text, mode] :
       {std::tuple{"/ca.pem", authority->pem, mode_t{0644}},
        std::tuple{"/node.key", ToPem(key.get()), mode_t{0600}},
        std::tuple{"/node.pem", ToPem(certificate->get()), mode_t{0644}}}) {
    if (absl::Status status = WriteFile(directory + file, text, mode); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace tutti
