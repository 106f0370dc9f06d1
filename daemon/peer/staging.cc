#include "daemon/peer/staging.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"

namespace tutti {
namespace {

absl::Status Problem(const std::string& path, int error) {
  return absl::UnavailableError(absl::StrCat(path, ": ", std::strerror(error)));
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  const UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.valid()) return Problem(path, errno);
  const ssize_t written = write(file.get(), text.data(), text.size());
  if (written < 0) return Problem(path, errno);
  if (written != static_cast<ssize_t>(text.size())) return Problem(path, ENOSPC);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Staging>> Staging::Create(const std::string& directory) {
  std::error_code error;
  std::filesystem::remove_all(directory, error);
  if (error) return Problem(directory, error.value());
  if (mkdir(directory.c_str(), 0700) != 0) return Problem(directory, errno);
  return std::unique_ptr<Staging>(new Staging(directory));
}

Staging::~Staging() {
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

absl::Status Staging::Put(const CertificateFiles& files) {
  const std::string name = absl::StrCat(generation_ + 1);
  const std::string made = absl::StrCat(directory_, "/", name);
  std::error_code ignored;
  std::filesystem::remove_all(made, ignored);
  if (mkdir(made.c_str(), 0700) != 0) return Problem(made, errno);
  for (const auto& [file, text] : {std::pair<const char*, const std::string&>{"ca.pem", files.ca},
                                   {"node.pem", files.node},
                                   {"node.key", files.key}}) {
    if (absl::Status status = WriteFile(absl::StrCat(made, "/", file), text); !status.ok()) {
      return status;
    }
  }
  const std::string link = directory_ + "/next";
  std::filesystem::remove(link, ignored);
  if (symlink(name.c_str(), link.c_str()) != 0) return Problem(link, errno);
  if (rename(link.c_str(), current().c_str()) != 0) return Problem(current(), errno);
  ++generation_;
  std::filesystem::remove_all(absl::StrCat(directory_, "/", generation_ - 2), ignored);
  return absl::OkStatus();
}

}  // namespace tutti
