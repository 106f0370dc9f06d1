#include "shm/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/failpoint.h"

namespace tutti {
namespace {

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

// The kernel gives back all of an fallocate that a signal interrupts. In pieces (of about 1 ms, and
// smaller ones after an interruption) a client with a profiler's timer still gets on.
constexpr size_t kFallocatePieceBytes = size_t{4} << 20;
constexpr size_t kFallocatePieceBytesMin = size_t{64} << 10;

// What fstat counts in.
constexpr uint64_t kBlockBytes = 512;

absl::Status SystemError(absl::StatusCode code, absl::string_view what) {
  const int error = errno;
  return absl::Status(code, absl::StrCat(what, ": ", std::strerror(error)));
}

// Whether the file is what it should be. Only after sealing is this the last word.
absl::Status CheckFile(int fd, size_t size_bytes) {
  struct stat file {};
  if (fstat(fd, &file) != 0) return SystemError(absl::StatusCode::kInvalidArgument, "fstat");
  if (!S_ISREG(file.st_mode)) return absl::InvalidArgumentError("an arena must be a memfd");
  if (file.st_size < 0 || static_cast<uint64_t>(file.st_size) != size_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the arena was made with ", size_bytes, " bytes, but now has ", file.st_size));
  }
  const uint64_t allocated = static_cast<uint64_t>(file.st_blocks) * kBlockBytes;
  if (allocated < size_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("only ", allocated, " of the arena's ", size_bytes,
                     " bytes are allocated: the client must fallocate all of it"));
  }
  return absl::OkStatus();
}

absl::Status AddSeals(int fd, int seals) {
  if (fcntl(fd, F_ADD_SEALS, seals) == 0) return absl::OkStatus();
  // EPERM: the client has set F_SEAL_SEAL itself. EINVAL: no memfd.
  return SystemError(absl::StatusCode::kInvalidArgument,
                     "the arena cannot be sealed; has the client sealed it?");
}

}  // namespace

absl::StatusOr<UniqueFd> CreateArenaFile(size_t size_bytes) {
  if (size_bytes == 0 || size_bytes > static_cast<size_t>(std::numeric_limits<off_t>::max())) {
    return absl::InvalidArgumentError(absl::StrCat("an arena of ", size_bytes, " bytes"));
  }
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  UniqueFd fd(memfd_create("tutti-arena", kFlags | MFD_NOEXEC_SEAL));
  // Kernels before 6.3 do not know that flag; since then some are set up to insist on it.
  if (!fd.valid() && errno == EINVAL) fd.Reset(memfd_create("tutti-arena", kFlags));
  if (!fd.valid()) return SystemError(absl::StatusCode::kResourceExhausted, "memfd_create");
  if (ftruncate(fd.get(), static_cast<off_t>(size_bytes)) != 0) {
    const bool too_large = errno == EFBIG || errno == EINVAL;
    return SystemError(
        too_large ? absl::StatusCode::kInvalidArgument : absl::StatusCode::kResourceExhausted,
        absl::StrCat("an arena of ", size_bytes, " bytes"));
  }
  return fd;
}

absl::StatusOr<Mapping> PopulateArena(int fd, size_t size_bytes) {
  size_t piece = kFallocatePieceBytes;
  for (size_t offset = 0; offset < size_bytes;) {
    piece = std::min(piece, size_bytes - offset);
    const int error = posix_fallocate(fd, static_cast<off_t>(offset), static_cast<off_t>(piece));
    if (error == EINTR) {
      piece = std::max(piece / 2, kFallocatePieceBytesMin);
    } else if (error != 0) {
      errno = error;
      return SystemError(error == ENOSPC || error == ENOMEM ? absl::StatusCode::kResourceExhausted
                                                            : absl::StatusCode::kInvalidArgument,
                         absl::StrCat("allocating an arena of ", size_bytes, " bytes"));
    } else {
      offset += piece;
    }
  }
  void* const data =
      mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (data == MAP_FAILED) {
    return SystemError(
        errno == ENOMEM ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kInvalidArgument,
        absl::StrCat("mapping an arena of ", size_bytes, " bytes"));
  }
  return Mapping(data, size_bytes);
}

// The order is the point, for the client has a writable descriptor and may use it between any two
// of these steps:
//  1. The size seals end ftruncate, and allocation beyond the end of the file.
//  2. ftruncate to the size that it has frees what was allocated beyond the end before. Without
//     this, as many blocks out there would hide holes inside from step 5.
//  3. The mapping is made while writable ones still can be. It is not populated: a hole would then
//  be
//     filled at the daemon's expense, and beyond its memory limit that is SIGKILL. Nor is it read.
//  4. FUTURE_WRITE ends punching holes, also by MADV_REMOVE in writable mappings that exist (they
//  can
//     change bytes and nothing else), and new writable mappings. SEAL ends sealing: a F_SEAL_WRITE
//     is impossible while the mapping exists, and shall not come when it is gone.
//  5. Now nothing can be taken away any more, and the count of blocks is the last word.
//  6. All pages exist, so populating the page tables allocates none, and charges nobody.
absl::StatusOr<Mapping> AdoptArena(int fd, size_t size_bytes) {
  if (const absl::Status status = AddSeals(fd, F_SEAL_SHRINK | F_SEAL_GROW); !status.ok()) {
    return status;
  }
  if (const absl::Status status = CheckFile(fd, size_bytes); !status.ok()) return status;
  if (ftruncate(fd, static_cast<off_t>(size_bytes)) != 0) {
    return SystemError(absl::StatusCode::kInvalidArgument, "trimming the arena");
  }
  Failpoint("arena.before_map");
  void* const data = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) {
    return SystemError(
        errno == ENOMEM ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kInvalidArgument,
        "the arena cannot be mapped; has the client sealed it?");
  }
  Mapping mapping(data, size_bytes);
  Failpoint("arena.before_seal");
  if (const absl::Status status = AddSeals(fd, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL); !status.ok()) {
    return status;
  }
  // The planted defect: not looking again after the last moment for a hole.
  if (!Mutated("arena.skip_last_check")) {
    if (const absl::Status status = CheckFile(fd, size_bytes); !status.ok()) return status;
  }
  // Linux before 5.14 does not know it; pages are then mapped when they are touched.
  (void)madvise(data, size_bytes, MADV_POPULATE_WRITE);
  return mapping;
}

}  // namespace tutti
