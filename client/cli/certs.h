// Certificates of a cluster's daemons: an authority, and one certificate for each node.
//
//   tutti certs init DIR --cluster prod       DIR/ca.pem, DIR/ca.key
//   tutti certs node DIR node7                DIR/node7/{ca.pem,node.pem,node.key}
//
// DIR/node7 is the peer_tls_dir of that node. ca.key belongs to nobody else: who has it can make
// nodes. A node's certificate says who it is with a URI, "tutti://cluster/prod/node/node7".
//
// Thread-safe: free functions without state. Nothing here prints.
#pragma once

#include <ctime>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tutti {

struct AuthorityOptions {
  std::string directory;  // made if it does not exist
  std::string cluster;    // letters, digits, and . _ - between them
  int days = 3650;
  std::time_t now = 0;
};

// Fails with kInvalidArgument (names), kAlreadyExists (there is an authority, which is kept) and
// kUnavailable (files).
absl::Status MakeAuthority(const AuthorityOptions& options);

struct NodeOptions {
  std::string directory;  // of the authority
  std::string name;       // as the cluster's
  // IP addresses and host names, for programs other than daemons: these do not look at them.
  std::vector<std::string> addresses;
  int days = 365;
  std::time_t now = 0;
};

// Replaces what the node has, key and certificate each as a whole: a daemon that reads only one of
// them keeps what it had. Fails with kInvalidArgument, kNotFound (no authority) and kUnavailable.
absl::Status MakeNode(const NodeOptions& options);

}  // namespace tutti
