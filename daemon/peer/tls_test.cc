// Daemons over mutual TLS: who is let in, and certificates that are replaced while they run.
#include <catch2/catch.hpp>
#include <filesystem>
#include <memory>
#include <string>

#include "daemon/peer/testing/certificate_maker.h"
#include "daemon/peer/testing/peer_daemon.h"
#include "daemon/peer/tls_credentials.h"
#include "tutti/v1/peer.grpc.pb.h"

namespace tutti {
namespace {

struct World {
  World() { maker.MakeAuthority("prod", "prod"); }

  // Of the files in `directory`.
  std::unique_ptr<TlsCredentials> Load(const std::string& directory) {
    auto loaded = TlsCredentials::Create(
        {.clock = &clock,
         .directory = directory,
         .staging_directory = maker.path("staged") + std::to_string(++staged),
         .period = absl::Milliseconds(20)});
    INFO(loaded.status().ToString());
    REQUIRE(loaded.ok());
    return *std::move(loaded);
  }

  RealClock clock;
  CertificateMaker maker;
  int staged = 0;
};

PeerNetworkOverGrpc::Options With(PeerCredentials* credentials) {
  return {.peer_address = "127.0.0.1:0", .credentials = credentials};
}

TEST_CASE("nodes of one cluster speak; its name and theirs are in their certificates") {
  World world;
  const auto of_a = world.Load(world.maker.MakeNode("prod", "a"));
  const auto of_b = world.Load(world.maker.MakeNode("prod", "b"));
  CHECK(of_a->identity() == NodeIdentity{.cluster = "prod", .node = "a"});
  PeerDaemon a('a', With(of_a.get()));
  PeerNetworkOverGrpc::Options joins{.join = a.address(), .credentials = of_b.get()};
  PeerDaemon b('b', joins);
  b.WaitFor("seed a");
  b.Say(a.self(), 1);
  a.WaitFor("heard b 1");
  a.Say(b.self(), 2);
  b.WaitFor("heard a 2");
}

TEST_CASE("strangers are kept out, whoever dials") {
  World world;
  const auto of_a = world.Load(world.maker.MakeNode("prod", "a"));
  PeerDaemon a('a', With(of_a.get()));
  std::unique_ptr<TlsCredentials> of_b;
  SECTION("another authority") {
    world.maker.MakeAuthority("other", "prod");
    of_b = world.Load(world.maker.MakeNode("other", "b"));
  }
  SECTION("no certificate") {}
  PeerDaemon b('b', With(of_b.get()));
  b.Say(a.self(), 1);
  b.WaitFor("lost a");
  a.Say(b.self(), 1);
  a.WaitFor("lost b");
  CHECK(a.Log().empty());
}

TEST_CASE("a node of another cluster with the same authority: PERMISSION_DENIED, in both ways") {
  World world;
  // The same key, another name.
  world.maker.MakeAuthority("test", "test");
  const std::string a_dir = world.maker.MakeNode("prod", "a");
  const std::string b_dir = world.maker.MakeNode("test", "b");
  const std::string both =
      CertificateMaker::Read(a_dir + "/ca.pem") + CertificateMaker::Read(b_dir + "/ca.pem");
  CertificateMaker::Write(a_dir + "/ca.pem", both);
  CertificateMaker::Write(b_dir + "/ca.pem", both);
  const auto of_a = world.Load(a_dir);
  const auto of_b = world.Load(b_dir);
  PeerDaemon a('a', With(of_a.get()));
  SECTION("it is dialled") {
    PeerDaemon b('b', With(of_b.get()));
    a.Say(b.self(), 1);
    a.WaitFor("lost b");
  }
  SECTION("it dials, and does not look at who answers") {
    const auto identity = std::make_shared<grpc::experimental::StaticDataCertificateProvider>(
        both, std::vector<grpc::experimental::IdentityKeyCertPair>{
                  {CertificateMaker::Read(b_dir + "/node.key"),
                   CertificateMaker::Read(b_dir + "/node.pem")}});
    grpc::experimental::TlsChannelCredentialsOptions options;
    options.set_certificate_provider(identity);
    options.watch_root_certs();
    options.watch_identity_key_cert_pairs();
    options.set_check_call_host(false);
    options.set_certificate_verifier(
        std::make_shared<grpc::experimental::NoOpCertificateVerifier>());
    const auto channel =
        grpc::CreateChannel(a.address(), grpc::experimental::TlsCredentials(options));
    grpc::ClientContext question;
    v1::GetNodeResponse answer;
    CHECK(v1::PeerService::NewStub(channel)->GetNode(&question, {}, &answer).error_code() ==
          grpc::StatusCode::PERMISSION_DENIED);
    CHECK(answer.ByteSizeLong() == 0);
    grpc::ClientContext context;
    const auto stream = v1::PeerService::NewStub(channel)->Link(&context);
    v1::LinkFrame frame;
    CHECK_FALSE(stream->Read(&frame));
    const grpc::Status status = stream->Finish();
    CHECK(status.error_code() == grpc::StatusCode::PERMISSION_DENIED);
    CHECK(status.error_message() == "only nodes of the cluster prod may speak to it");
  }
}

// Says things until one is heard: new connections take what is new within a second.
void UntilHeard(PeerDaemon* from, PeerDaemon* to, const std::string& wanted) {
  const NodeInfo node = to->self();
  while (true) {
    from->Say(node, 7);
    from->RunOnLoop([] {});
    for (const std::string& entry : to->Log()) {
      if (entry == wanted) return;
    }
  }
}

TEST_CASE("a cluster moves to another authority, file by file, while its daemons run") {
  World world;
  world.maker.MakeAuthority("next", "prod");
  const std::string a_dir = world.maker.MakeNode("prod", "a");
  const std::string b_dir = world.maker.MakeNode("next", "b");
  const auto of_a = world.Load(a_dir);
  const auto of_b = world.Load(b_dir);
  PeerDaemon a('a', With(of_a.get()));
  PeerDaemon b('b', With(of_b.get()));
  b.Say(a.self(), 1);
  b.WaitFor("lost a");
  const std::string next = world.maker.MakeNode("next", "a");
  // Written in place: empty for a moment, then half of it, and for a while one fits no other.
  for (const std::string name : {"node.key", "ca.pem", "node.pem"}) {
    const std::string text = CertificateMaker::Read(next + "/" + name);
    CertificateMaker::Write(a_dir + "/" + name, "");
    CertificateMaker::Write(a_dir + "/" + name, text.substr(0, text.size() / 2));
    CertificateMaker::Write(a_dir + "/" + name, text);
  }
  UntilHeard(&b, &a, "heard b 7");
}

TEST_CASE("files that are not right at the start are named, with what to do") {
  World world;
  const auto problem = [&](const std::string& directory) {
    const auto loaded = TlsCredentials::Create({.clock = &world.clock,
                                                .directory = directory,
                                                .staging_directory = world.maker.path("x")});
    CHECK(absl::IsFailedPrecondition(loaded.status()));
    return std::string(loaded.status().message());
  };
  CHECK(problem(world.maker.path("none")).find("`tutti certs` makes certificates") !=
        std::string::npos);
  const std::string directory = world.maker.MakeNode("prod", "a");
  CertificateMaker::Write(directory + "/node.pem", "");
  CHECK(problem(directory).find("node.pem: is no certificate in PEM") != std::string::npos);
}

}  // namespace
}  // namespace tutti
