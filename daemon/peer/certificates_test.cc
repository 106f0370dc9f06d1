#include "daemon/peer/certificates.h"

#include <catch2/catch.hpp>
#include <ctime>
#include <filesystem>
#include <string>

#include "daemon/peer/staging.h"
#include "daemon/peer/testing/certificate_maker.h"

namespace tutti {
namespace {

constexpr std::time_t kDay = 24 * 3600;

struct Made {
  Made() {
    maker.MakeAuthority("a", "prod");
    const auto read = ReadCertificateFiles(maker.MakeNode("a", "node7"));
    REQUIRE(read.ok());
    files = *read;
  }
  std::string Problem(std::time_t at = std::time(nullptr)) const {
    const auto checked = CheckCertificates(files, at);
    CHECK(absl::IsInvalidArgument(checked.status()));
    return std::string(checked.status().message());
  }

  CertificateMaker maker;
  CertificateFiles files;
};

TEST_CASE("what the tool makes is right, from now on and for a year") {
  const Made made;
  const std::time_t now = std::time(nullptr);
  for (const std::time_t at : {now, now + 364 * kDay}) {
    const auto checked = CheckCertificates(made.files, at);
    INFO(checked.status().ToString());
    REQUIRE(checked.ok());
    CHECK(*checked == NodeIdentity{.cluster = "prod", .node = "node7"});
  }
  CHECK(made.Problem(now + 366 * kDay).find("certificate has expired") != std::string::npos);
  CHECK(made.Problem(now - kDay).find("not yet valid") != std::string::npos);
}

TEST_CASE("a file that is cut off anywhere, or empty, is refused") {
  const Made made;
  for (std::string CertificateFiles::*const file :
       {&CertificateFiles::ca, &CertificateFiles::node, &CertificateFiles::key}) {
    // Without its last newline it is whole.
    for (size_t size = 0; size + 1 < (made.files.*file).size(); ++size) {
      CertificateFiles cut = made.files;
      (cut.*file).resize(size);
      CHECK_FALSE(CheckCertificates(cut, std::time(nullptr)).ok());
    }
  }
}

TEST_CASE("files that do not belong together are refused, and which is named") {
  Made made;
  made.maker.MakeAuthority("b", "prod");
  const auto other = ReadCertificateFiles(made.maker.MakeNode("b", "node7"));
  REQUIRE(other.ok());
  SECTION("the key of another") {
    made.files.key = other->key;
    CHECK(made.Problem() == "node.key: is not the key of node.pem");
  }
  SECTION("another authority") {
    made.files.ca = other->ca;
    CHECK(made.Problem().find("node.pem: the authorities of ca.pem do not vouch for it") == 0);
  }
  SECTION("both authorities, while the cluster changes from one to the other") {
    made.files.ca += other->ca;
    CHECK(CheckCertificates(made.files, std::time(nullptr)).ok());
  }
  SECTION("an authority is no node") {
    made.files.node = made.files.ca;
    made.files.key = CertificateMaker::Read(made.maker.path("a/ca.key"));
    CHECK(made.Problem().find("node.pem: names no node") == 0);
  }
}

TEST_CASE("a file that is not there is named") {
  const CertificateMaker maker;
  const auto read = ReadCertificateFiles(maker.path("none"));
  CHECK(absl::IsNotFound(read.status()));
  CHECK(std::string(read.status().message()).find("/none/ca.pem: No such file") !=
        std::string::npos);
}

TEST_CASE("URIs of nodes") {
  CHECK(ParseNodeUri("tutti://cluster/prod/node/node7") == NodeIdentity{"prod", "node7"});
  for (const char* uri :
       {"", "tutti://cluster/prod", "tutti://cluster/prod/node/", "tutti://cluster//node/x",
        "tutti://cluster/prod/nodes/x", "tutti://cluster/prod/node/x/y", "http://cluster/a/node/x",
        "xtutti://cluster/prod/node/x", "tutti://cluster/prod/x/node/y"}) {
    INFO(uri);
    CHECK_FALSE(ParseNodeUri(uri).has_value());
  }
}

TEST_CASE("a set is replaced as a whole; the one before stays until the next; all go in the end") {
  const CertificateMaker maker;
  const std::string directory = maker.path("staging");
  {
    auto staging = Staging::Create(directory);
    REQUIRE(staging.ok());
    for (int i = 1; i <= 4; ++i) {
      const std::string text = std::to_string(i);
      REQUIRE(
          (*staging)->Put({.ca = "ca" + text, .node = "node" + text, .key = "key" + text}).ok());
      const auto read = ReadCertificateFiles((*staging)->current());
      REQUIRE(read.ok());
      CHECK(*read == CertificateFiles{"ca" + text, "node" + text, "key" + text});
    }
    CHECK(std::filesystem::exists(directory + "/3/node.key"));
    CHECK_FALSE(std::filesystem::exists(directory + "/2"));
    using std::filesystem::perms;
    CHECK(std::filesystem::status(directory).permissions() == perms::owner_all);
    CHECK(std::filesystem::status(directory + "/4/node.key").permissions() ==
          (perms::owner_read | perms::owner_write));
    // What a daemon that was killed has left is no obstacle.
    static const Staging* const killed = staging->release();
    REQUIRE(killed != nullptr);
  }
  CHECK(Staging::Create(directory).ok());
  CHECK_FALSE(std::filesystem::exists(directory));
}

}  // namespace
}  // namespace tutti
