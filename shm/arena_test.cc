#include "shm/arena.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/failpoint.h"
#include "base/thread.h"
#include "shm/testing/open_fds.h"

namespace tutti {
namespace {

constexpr size_t kSize = size_t{1} << 20;
constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

UniqueFd NewArena(size_t size_bytes = kSize) {
  absl::StatusOr<UniqueFd> fd = CreateArenaFile(size_bytes);
  REQUIRE(fd.ok());
  return *std::move(fd);
}

Mapping Populated(const UniqueFd& fd, size_t size_bytes = kSize) {
  absl::StatusOr<Mapping> mapping = PopulateArena(fd.get(), size_bytes);
  REQUIRE(mapping.ok());
  return *std::move(mapping);
}

off_t Allocated(const UniqueFd& fd) {
  struct stat file {};
  REQUIRE(fstat(fd.get(), &file) == 0);
  return file.st_blocks * 512;
}

// That AdoptArena refuses, and what it says.
std::string Refusal(int fd, size_t size_bytes = kSize) {
  const absl::StatusOr<Mapping> mapping = AdoptArena(fd, size_bytes);
  CHECK(absl::IsInvalidArgument(mapping.status()));
  return std::string(mapping.status().message());
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

int MapError(int fd, int protection) {
  void* const data = mmap(nullptr, kSize, protection, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return errno;
  munmap(data, kSize);
  return 0;
}

// How much of the mapping that begins at `data` is in this process's page table.
size_t ResidentKib(const std::byte* data) {
  std::ostringstream begin;
  begin << std::hex << reinterpret_cast<uintptr_t>(data) << "-";
  std::ifstream smaps("/proc/self/smaps");
  std::string line;
  while (std::getline(smaps, line) && line.rfind(begin.str(), 0) != 0) {
  }
  while (std::getline(smaps, line) && line.rfind("Rss:", 0) != 0) {
  }
  return std::stoul(line.substr(4));
}

TEST_CASE("Client and daemon see each other's bytes") {
  const UniqueFd fd = NewArena();
  const Mapping client = Populated(fd);
  const absl::StatusOr<Mapping> daemon = AdoptArena(fd.get(), kSize);
  REQUIRE(daemon.ok());
  CHECK(daemon->size_bytes() == kSize);
  CHECK(daemon->data() != client.data());
  client.data()[kSize - 1] = std::byte{7};
  daemon->data()[0] = std::byte{8};
  CHECK(daemon->data()[kSize - 1] == std::byte{7});
  CHECK(client.data()[0] == std::byte{8});
  CHECK((fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("Adopting maps every page") {
  const UniqueFd fd = NewArena();
  const Mapping client = Populated(fd);
  const absl::StatusOr<Mapping> daemon = AdoptArena(fd.get(), kSize);
  REQUIRE(daemon.ok());
  // Nothing has touched it here, and yet all of it is in the page table.
  CHECK(ResidentKib(daemon->data()) == kSize / 1024);
}

TEST_CASE("After adoption nothing can be taken away, and nobody new can write") {
  const UniqueFd fd = NewArena();
  const Mapping client = Populated(fd);
  const absl::StatusOr<Mapping> daemon = AdoptArena(fd.get(), kSize);
  REQUIRE(daemon.ok());
  const auto refused = [](int result) { return result == -1 && errno == EPERM; };
  CHECK(refused(ftruncate(fd.get(), 0)));
  CHECK(refused(ftruncate(fd.get(), kSize - 4096)));
  CHECK(refused(ftruncate(fd.get(), kSize + 4096)));
  CHECK(refused(fallocate(fd.get(), 0, kSize, 4096)));
  CHECK(refused(fallocate(fd.get(), FALLOC_FL_KEEP_SIZE, kSize, 4096)));
  CHECK(refused(fallocate(fd.get(), kPunch, 0, 4096)));
  CHECK(refused(madvise(client.data(), 4096, MADV_REMOVE)));
  CHECK(refused(static_cast<int>(pwrite(fd.get(), "x", 1, 0))));
  for (const int seal : {F_SEAL_WRITE, F_SEAL_SHRINK}) {
    CHECK(refused(fcntl(fd.get(), F_ADD_SEALS, seal)));
  }
  CHECK(MapError(fd.get(), PROT_READ | PROT_WRITE) == EPERM);
  CHECK(MapError(fd.get(), PROT_READ) == 0);
  // A descriptor that is opened again is no way around.
  const UniqueFd again(
      open(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(again.valid());
  CHECK(MapError(again.get(), PROT_READ | PROT_WRITE) == EPERM);
  // Nor is a mapping for reading that is made writable later.
  void* const reader = mmap(nullptr, kSize, PROT_READ, MAP_SHARED, fd.get(), 0);
  REQUIRE(reader != MAP_FAILED);
  CHECK(mprotect(reader, kSize, PROT_READ | PROT_WRITE) == -1);
  munmap(reader, kSize);
  // The mappings that exist go on working, also without the descriptor.
  std::memset(client.data(), 1, kSize);
  std::memset(daemon->data(), 2, kSize);
  CHECK(client.data()[kSize / 2] == std::byte{2});
}

TEST_CASE("An arena that is not allocated is refused, and not allocated by that") {
  const UniqueFd fd = NewArena();
  CHECK(Contains(Refusal(fd.get()), "the client must fallocate"));
  CHECK(Allocated(fd) == 0);
}

TEST_CASE("Holes are found, also behind blocks beyond the end, and not filled") {
  const bool hidden = GENERATE(false, true);
  const UniqueFd fd = NewArena();
  const Mapping client = Populated(fd);
  if (hidden) REQUIRE(fallocate(fd.get(), FALLOC_FL_KEEP_SIZE, kSize, kSize) == 0);
  REQUIRE(fallocate(fd.get(), kPunch, 8192, 4096) == 0);
  CHECK(Contains(Refusal(fd.get()), "the client must fallocate"));
  CHECK(Allocated(fd) == kSize - 4096);
}

TEST_CASE("Another size than agreed is refused") {
  const off_t size = GENERATE(0, 4096, kSize - 1, kSize + 1, 2 * kSize);
  const UniqueFd fd = NewArena();
  const Mapping client = Populated(fd);
  REQUIRE(ftruncate(fd.get(), size) == 0);
  CHECK(Contains(Refusal(fd.get()), "was made with 1048576 bytes"));
}

TEST_CASE("Seals that the client sets itself") {
  const UniqueFd fd = NewArena();
  SECTION("F_SEAL_SEAL: refused, the daemon could not seal any more") {
    const Mapping client = Populated(fd);
    REQUIRE(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SEAL) == 0);
    CHECK(Contains(Refusal(fd.get()), "cannot be sealed"));
  }
  SECTION("F_SEAL_WRITE: refused, the daemon could not write") {
    { const Mapping client = Populated(fd); }
    REQUIRE(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE) == 0);
    CHECK(Contains(Refusal(fd.get()), "cannot be mapped"));
  }
  SECTION("F_SEAL_FUTURE_WRITE: the same") {
    const Mapping client = Populated(fd);
    REQUIRE(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0);
    CHECK(Contains(Refusal(fd.get()), "cannot be mapped"));
  }
  SECTION("the size seals: harmless, they come anyway") {
    const Mapping client = Populated(fd);
    REQUIRE(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
    CHECK(AdoptArena(fd.get(), kSize).ok());
  }
}

TEST_CASE("What is no memfd is refused") {
  int ends[2] = {-1, -1};
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd reader(ends[0]), writer(ends[1]);
  Refusal(reader.get());
  const UniqueFd file(open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  REQUIRE(file.valid());
  REQUIRE(posix_fallocate(file.get(), 0, kSize) == 0);
  Refusal(file.get());
  Refusal(-1);
}

TEST_CASE("Impossible sizes") {
  CHECK(absl::IsInvalidArgument(CreateArenaFile(0).status()));
  CHECK(absl::IsInvalidArgument(CreateArenaFile(~size_t{0}).status()));
  const UniqueFd fd = NewArena();
  // A client that believes in another size makes the file grow; the daemon refuses it.
  const Mapping client = Populated(fd, 2 * kSize);
  Refusal(fd.get());
}

// Runs AdoptArena on another thread, holds it at `failpoint`, and lets `meanwhile` happen.
template <typename Meanwhile>
absl::Status AdoptWith(const char* failpoint, const UniqueFd& fd, Meanwhile meanwhile) {
  absl::Status status;
  SetFailpoint(failpoint, FailpointAction::kPause, 1);
  {
    Thread daemon("daemon", [&] { status = AdoptArena(fd.get(), kSize).status(); });
    while (SetFailpoint(failpoint, FailpointAction::kQuery, 0).held == 0) std::this_thread::yield();
    meanwhile();
    SetFailpoint(failpoint, FailpointAction::kOff, 0);
  }
  return status;
}

TEST_CASE("A client that strikes between the daemon's steps") {
  if (!kFailpointsBuiltIn) return;
  const UniqueFd fd = NewArena();
  const Mapping client = Populated(fd);
  SECTION("a hole after the first check") {
    const absl::Status status = AdoptWith(
        "arena.before_map", fd, [&] { REQUIRE(fallocate(fd.get(), kPunch, 0, 4096) == 0); });
    CHECK(Contains(std::string(status.message()), "the client must fallocate"));
    CHECK(Allocated(fd) == kSize - 4096);  // mapping has not filled it
  }
  SECTION("a hole when it is mapped") {
    const absl::Status status = AdoptWith(
        "arena.before_seal", fd, [&] { REQUIRE(madvise(client.data(), 4096, MADV_REMOVE) == 0); });
    CHECK(Contains(std::string(status.message()), "the client must fallocate"));
    CHECK(Allocated(fd) == kSize - 4096);
  }
  SECTION("a last seal of its own") {
    const absl::Status status = AdoptWith(
        "arena.before_seal", fd, [&] { REQUIRE(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SEAL) == 0); });
    CHECK(Contains(std::string(status.message()), "cannot be sealed"));
  }
  SECTION("size and blocks beyond the end are out of its hands already") {
    const absl::Status status = AdoptWith("arena.before_map", fd, [&] {
      CHECK(ftruncate(fd.get(), 0) == -1);
      CHECK(fallocate(fd.get(), FALLOC_FL_KEEP_SIZE, kSize, 4096) == -1);
      CHECK(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE) == -1);  // its mapping is writable
    });
    CHECK(status.ok());
  }
}

TEST_CASE("The tests above see a daemon that does not look again after sealing") {
  if (!kFailpointsBuiltIn) return;
  const UniqueFd fd = NewArena();
  const Mapping client = Populated(fd);
  SetFailpoint("arena.skip_last_check", FailpointAction::kMutate, 1);
  const absl::Status status = AdoptWith(
      "arena.before_seal", fd, [&] { REQUIRE(fallocate(fd.get(), kPunch, 0, 4096) == 0); });
  SetFailpoint("arena.skip_last_check", FailpointAction::kOff, 0);
  CHECK(status.ok());
  CHECK(Allocated(fd) == kSize);  // filled at the daemon's expense
}

// Until it is killed: everything a client could do to an arena.
[[noreturn]] void BeHostile(int fd) {
  for (unsigned i = 0;; ++i) {
    fallocate(fd, kPunch, (i % 256) * 4096, 4096);
    if (ftruncate(fd, i % 2 == 0 ? kSize / 2 : 2 * kSize) == 0) (void)!ftruncate(fd, kSize);
    posix_fallocate(fd, 0, i % 3 == 0 ? 2 * kSize : kSize);
    if (i % 64 == 0) fcntl(fd, F_ADD_SEALS, i % 128 == 0 ? F_SEAL_WRITE : F_SEAL_SEAL);
  }
}

TEST_CASE("A hostile process gets a status or a sealed arena, and never a signal for the daemon") {
  int adopted = 0;
  constexpr int kRounds = 50;
  for (int round = 0; round < kRounds; ++round) {
    const UniqueFd fd = NewArena();
    { const Mapping client = Populated(fd); }
    const pid_t client = fork();
    REQUIRE(client >= 0);
    if (client == 0) BeHostile(fd.get());
    // From a quick daemon to one that comes when much has happened.
    for (int i = 0; i < 2 * round; ++i) std::this_thread::yield();
    const absl::StatusOr<Mapping> mapping = AdoptArena(fd.get(), kSize);
    if (mapping.ok()) {
      ++adopted;
      CHECK(Allocated(fd) == kSize);
      std::memset(mapping->data(), round, kSize);
    } else {
      CHECK(absl::IsInvalidArgument(mapping.status()));
    }
    kill(client, SIGKILL);
    CHECK(waitpid(client, nullptr, 0) == client);
  }
  WARN("adopted " << adopted << " of " << kRounds);
}

TEST_CASE("Populating gets on although signals interrupt it") {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  struct sigaction before {};
  REQUIRE(sigaction(SIGALRM, &action, &before) == 0);
  const itimerval often{.it_interval = {.tv_sec = 0, .tv_usec = 500},
                        .it_value = {.tv_sec = 0, .tv_usec = 500}};
  REQUIRE(setitimer(ITIMER_REAL, &often, nullptr) == 0);
  constexpr size_t kLarge = size_t{128} << 20;
  const UniqueFd fd = NewArena(kLarge);
  const absl::StatusOr<Mapping> client = PopulateArena(fd.get(), kLarge);
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  sigaction(SIGALRM, &before, nullptr);
  REQUIRE(client.ok());
  CHECK(Allocated(fd) == kLarge);
}

TEST_CASE("Neither success nor refusal leaks descriptors or mappings") {
  const auto once = [] {
    for (const bool good : {true, false}) {
      const UniqueFd fd = NewArena();
      const Mapping client = Populated(fd);
      if (!good) REQUIRE(fallocate(fd.get(), kPunch, 0, 4096) == 0);
      CHECK(AdoptArena(fd.get(), kSize).ok() == good);
    }
  };
  once();
  const size_t fds = OpenFds(), mappings = ArenaMappings();
  for (int i = 0; i < 10; ++i) once();
  CHECK(OpenFds() == fds);
  CHECK(ArenaMappings() == mappings);
  CHECK(mappings == 0);
}

TEST_CASE("A mapping has one owner") {
  const UniqueFd fd = NewArena();
  Mapping first = Populated(fd);
  CHECK(ArenaMappings() == 1);
  std::byte* const data = first.data();
  Mapping second = std::move(first);
  CHECK(first.data() == nullptr);  // NOLINT: what moving leaves is the point
  CHECK(first.size_bytes() == 0);
  CHECK(second.data() == data);
  second = Populated(fd);
  CHECK(ArenaMappings() == 1);
  second = Mapping();
  CHECK(ArenaMappings() == 0);
}

}  // namespace
}  // namespace tutti
