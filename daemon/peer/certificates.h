// A node's certificate, its key, and the authority that has signed it; and what makes them right.
//
// Nodes are recognised by a URI in their certificates, "tutti://cluster/<cluster>/node/<name>", and
// not by host names: addresses of nodes change. `tutti certs` makes them (client/cli/certs.h).
//
// Thread-safe: free functions without state.
#pragma once

#include <ctime>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace tutti {

// As PEM.
struct CertificateFiles {
  std::string ca;    // ca.pem: one authority or several
  std::string node;  // node.pem: the certificate, and whatever lies between it and an authority
  std::string key;   // node.key

  friend bool operator==(const CertificateFiles&, const CertificateFiles&) = default;
};

struct NodeIdentity {
  std::string cluster;
  std::string node;

  friend bool operator==(const NodeIdentity&, const NodeIdentity&) = default;
};

// Fails with kNotFound or kPermissionDenied, naming the file.
absl::StatusOr<CertificateFiles> ReadCertificateFiles(const std::string& directory);

// They parse, belong together, and are valid at `now` (wall clock). Fails with kInvalidArgument,
// naming the file.
absl::StatusOr<NodeIdentity> CheckCertificates(const CertificateFiles& files, std::time_t now);

// Of a certificate's URI; nothing if it is none of a node.
std::optional<NodeIdentity> ParseNodeUri(std::string_view uri);

}  // namespace tutti
