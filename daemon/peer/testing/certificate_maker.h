// Certificates for tests, made by the tool that people use, in a directory that is removed again.
//
// Not thread-safe.
#pragma once

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace tutti {

class CertificateMaker {
 public:
  CertificateMaker() {
    std::string made = (std::filesystem::temp_directory_path() / "tutti_certsXXXXXX").string();
    REQUIRE(mkdtemp(made.data()) != nullptr);
    root_ = made;
  }
  ~CertificateMaker() { std::filesystem::remove_all(root_); }
  CertificateMaker(const CertificateMaker&) = delete;
  CertificateMaker& operator=(const CertificateMaker&) = delete;

  std::string path(const std::string& name) const { return root_ + "/" + name; }

  // `authority` is a directory, for a cluster.
  void MakeAuthority(const std::string& authority, const std::string& cluster) {
    Run("init " + path(authority) + " --cluster " + cluster);
  }
  // Returns its directory.
  std::string MakeNode(const std::string& authority, const std::string& node) {
    Run("node " + path(authority) + " " + node);
    return path(authority) + "/" + node;
  }

  static std::string Read(const std::string& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  // In place, byte by byte, as careless people do it.
  static void Write(const std::string& file, const std::string& text) {
    std::ofstream(file, std::ios::binary | std::ios::trunc) << text;
  }

 private:
  static void Run(const std::string& arguments) {
    const std::string command = "client/cli/tutti certs " + arguments;
    INFO(command);
    REQUIRE(std::system(command.c_str()) == 0);
  }

  std::string root_;
};

}  // namespace tutti
