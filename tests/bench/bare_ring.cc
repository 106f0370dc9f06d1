// Contestant: nothing but the queues of shm/ring.h, in the layout of a session's ring. Both sides
// wait as the ring lane's do: they yield for a while, then sleep until a doorbell rings.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"
#include "shm/doorbell.h"
#include "shm/mapping.h"
#include "shm/ring_region.h"
#include "shm/spin.h"
#include "tests/bench/bare_exchange.h"

namespace tutti::bench {
namespace {

// As the daemon's default, spin_us.
constexpr uint64_t kSpinNs = 50'000;

constexpr int kListenPatienceMs = 60'000;

uint64_t NowNs() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

[[noreturn]] void DieOfErrno(const std::string& what) {
  Die(absl::StrCat(what, ": ", std::strerror(errno)));
}

// The memory of one rank's ring, of zeros if the file is new.
Mapping MapRing(const Arguments& arguments, uint32_t rank) {
  const std::string path = absl::StrCat(arguments.scratch, "/ring.", rank);
  const UniqueFd file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  const size_t bytes = RingBytes(kRingEntries);
  if (file.get() < 0 || ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) DieOfErrno(path);
  void* const data =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file.get(), 0);
  if (data == MAP_FAILED) DieOfErrno(path);
  return Mapping(data, bytes);
}

// A connection is a pair of stream sockets: once the rank has said who it is, it is its doorbell.
UniqueFd MakeSocket(const Arguments& arguments, sockaddr_un* address) {
  const std::string path = absl::StrCat(arguments.scratch, "/doorbell");
  if (path.size() >= sizeof(address->sun_path)) Die("the path of the doorbell is too long");
  *address = {.sun_family = AF_UNIX};
  std::memcpy(address->sun_path, path.data(), path.size());
  UniqueFd made(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (made.get() < 0) DieOfErrno("socket");
  return made;
}

class RingServer : public BareServer {
 public:
  explicit RingServer(const Arguments& arguments) {
    for (uint32_t rank = 0; rank < arguments.place.world_size; ++rank) {
      lanes_.push_back(std::make_unique<Lane>(MapRing(arguments, rank)));
    }
    sockaddr_un address;
    listener_ = MakeSocket(arguments, &address);
    if (bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
        listen(listener_.get(), static_cast<int>(lanes_.size())) != 0) {
      DieOfErrno("the doorbells' listener");
    }
  }

  void Serve() override {
    for (size_t i = 0; i < lanes_.size(); ++i) Accept();
    listener_.Reset();
    for (;;) {
      if (TakeArrivals()) {
        if (std::exchange(waiting_, false)) spin_.Succeeded();
        continue;
      }
      const uint64_t now_ns = NowNs();
      if (!std::exchange(waiting_, true)) spin_.Start(now_ns);
      if (spin_.MayYield(now_ns)) {
        sched_yield();
      } else if (!Sleep()) {
        return;
      }
    }
  }

 private:
  struct Lane {
    explicit Lane(Mapping mapped)
        : memory(std::move(mapped)),
          region(memory.data(), kRingEntries),
          arrivals(region.submissions()),
          completions(region.completions()) {}

    const Mapping memory;
    const RingRegion region;
    RingConsumer<SubmissionEntry> arrivals;
    RingProducer<CompletionEntry> completions;
    UniqueFd doorbell;
  };

  void Accept() {
    pollfd waited = {.fd = listener_.get(), .events = POLLIN, .revents = 0};
    if (poll(&waited, 1, kListenPatienceMs) != 1) Die("not all ranks have come");
    UniqueFd connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    uint32_t rank = 0;
    if (recv(connection.get(), &rank, sizeof(rank), MSG_WAITALL) != sizeof(rank) ||
        rank >= lanes_.size()) {
      Die("a rank has gone, or has not said its name");
    }
    lanes_[rank]->doorbell = std::move(connection);
  }

  // True if there was any.
  bool TakeArrivals() {
    bool any = false;
    for (const std::unique_ptr<Lane>& lane : lanes_) {
      SubmissionEntry entry;
      const auto popped = lane->arrivals.TryPop(&entry);
      if (popped == RingConsumer<SubmissionEntry>::Pop::kEmpty) continue;
      if (popped != RingConsumer<SubmissionEntry>::Pop::kDone || entry.number != done_ + 1) {
        Die("a rank is ahead of the others");
      }
      any = true;
      sum_ += entry.root;
      if (++arrived_ == lanes_.size()) Complete();
    }
    return any;
  }

  void Complete() {
    ++done_;
    const CompletionEntry entry = {.serial = done_, .number = done_, .reserved = sum_};
    arrived_ = 0;
    sum_ = 0;
    for (const std::unique_ptr<Lane>& lane : lanes_) {
      if (lane->completions.TryPush(entry) != RingProducer<CompletionEntry>::Push::kDone) {
        Die("a rank does not take its completions");
      }
      if (lane->completions.MustRing()) RingDoorbell(lane->doorbell.get());
    }
  }

  // False if a rank has gone.
  bool Sleep() {
    bool may_sleep = true;
    std::vector<pollfd> waited;
    for (const std::unique_ptr<Lane>& lane : lanes_) {
      may_sleep &= lane->arrivals.MaySleep();
      waited.push_back({.fd = lane->doorbell.get(), .events = POLLIN, .revents = 0});
    }
    if (may_sleep) poll(waited.data(), waited.size(), -1);
    bool all_there = true;
    for (const std::unique_ptr<Lane>& lane : lanes_) {
      lane->arrivals.Awake();
      all_there &= SilenceDoorbell(lane->doorbell.get());
    }
    return all_there;
  }

  UniqueFd listener_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  Spin spin_{kSpinNs};
  bool waiting_ = false;
  // Of the exchange under way.
  size_t arrived_ = 0;
  uint64_t sum_ = 0;
  // Exchanges so far.
  uint64_t done_ = 0;
};

class RingClient : public BareExchange {
 public:
  explicit RingClient(const Arguments& arguments)
      : BareExchange(arguments.place),
        memory_(MapRing(arguments, arguments.place.rank)),
        region_(memory_.data(), kRingEntries),
        submissions_(region_.submissions()),
        completions_(region_.completions()) {
    sockaddr_un address;
    doorbell_ = MakeSocket(arguments, &address);
    const uint32_t rank = arguments.place.rank;
    if (connect(doorbell_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
        send(doorbell_.get(), &rank, sizeof(rank), MSG_NOSIGNAL) != sizeof(rank)) {
      DieOfErrno("the doorbell");
    }
  }

 protected:
  uint64_t Exchange(uint32_t token) override {
    const SubmissionEntry entry = {.number = ++number_, .root = token};
    if (submissions_.TryPush(entry) != RingProducer<SubmissionEntry>::Push::kDone) {
      Die("the server does not take what is submitted");
    }
    if (submissions_.MustRing()) RingDoorbell(doorbell_.get());
    const CompletionEntry completion = Wait();
    if (completion.number != number_) Die("not the completion of this exchange");
    return completion.reserved;
  }

 private:
  CompletionEntry Wait() {
    CompletionEntry entry;
    bool waiting = false;
    for (;;) {
      const auto popped = completions_.TryPop(&entry);
      if (popped == RingConsumer<CompletionEntry>::Pop::kDone) break;
      if (popped == RingConsumer<CompletionEntry>::Pop::kBroken) Die("the ring is broken");
      const uint64_t now_ns = NowNs();
      if (!std::exchange(waiting, true)) spin_.Start(now_ns);
      if (spin_.MayYield(now_ns)) {
        sched_yield();
      } else {
        Sleep();
      }
    }
    if (waiting) spin_.Succeeded();
    return entry;
  }

  void Sleep() {
    if (completions_.MaySleep()) {
      pollfd waited = {.fd = doorbell_.get(), .events = POLLIN, .revents = 0};
      poll(&waited, 1, -1);
    }
    completions_.Awake();
    if (!SilenceDoorbell(doorbell_.get())) Die("the server of the bare ring has ended");
  }

  const Mapping memory_;
  const RingRegion region_;
  RingProducer<SubmissionEntry> submissions_;
  RingConsumer<CompletionEntry> completions_;
  UniqueFd doorbell_;
  Spin spin_{kSpinNs};
  uint64_t number_ = 0;
};

}  // namespace
}  // namespace tutti::bench

int main(int argc, char** argv) {
  using tutti::bench::Arguments;
  return tutti::bench::RunBareProgram(
      argc, argv,
      {.description = "the ring's queues and doorbells, and a process that only counts arrivals",
       .make_server =
           [](const Arguments& arguments) {
             return std::make_unique<tutti::bench::RingServer>(arguments);
           },
       .make_client =
           [](const Arguments& arguments) {
             return std::make_unique<tutti::bench::RingClient>(arguments);
           }});
}
