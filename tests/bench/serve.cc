#include "tests/bench/serve.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "tests/bench/barrier.h"

namespace tutti::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Words = std::vector<std::string>;

size_t ToNumber(const std::string& text) {
  size_t number = 0;
  if (!absl::SimpleAtoi(text, &number)) Die(absl::StrCat("not a number: ", text));
  return number;
}

double NanosecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

// Lines over a Unix socket.
class Line {
 public:
  explicit Line(const std::string& path) : socket_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof(address.sun_path)) Die("the path of the socket is too long");
    std::memcpy(address.sun_path, path.data(), path.size());
    if (connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
      Die(absl::StrCat(path, ": ", std::strerror(errno)));
    }
  }
  ~Line() { close(socket_); }
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;

  void Write(const std::string& line) {
    const std::string text = line + "\n";
    // Answers are short: the socket takes them whole.
    if (write(socket_, text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
      Die("bench.py does not listen");
    }
  }

  // Nothing at the end.
  std::optional<std::string> Read() {
    for (;;) {
      const size_t end = read_.find('\n');
      if (end != std::string::npos) {
        std::string line = read_.substr(0, end);
        read_.erase(0, end + 1);
        return line;
      }
      char bytes[256];
      const ssize_t count = read(socket_, bytes, sizeof(bytes));
      if (count <= 0) return std::nullopt;
      read_.append(bytes, static_cast<size_t>(count));
    }
  }

 private:
  const int socket_;
  std::string read_;
};

std::string Prepare(const Words& words, Contestant& contestant, Barrier& barrier) {
  const std::optional<Operation> operation = OperationNamed(words[1]);
  if (!operation.has_value() || !contestant.Supports(*operation)) return "unsupported";
  const Clock::time_point asked = Clock::now();
  contestant.Allocate(*operation, ToNumber(words[2]));
  const double allocate_ns = NanosecondsSince(asked);
  contestant.Fill();
  barrier.Wait();
  const Clock::time_point start = Clock::now();
  contestant.Run();
  const double first_ns = NanosecondsSince(start);
  const std::string wrong = contestant.Check();
  if (!wrong.empty()) return absl::StrCat("wrong ", wrong);
  return absl::StrFormat("ok %.0f %.0f %s", allocate_ns, first_ns, contestant.Note());
}

std::string Time(const Words& words, Contestant& contestant, Barrier& barrier) {
  const bool cold = words[1] == "cold";
  const size_t samples = ToNumber(words[2]);
  const size_t batch = ToNumber(words[3]);
  std::vector<double> figures(samples);
  // After another contestant's turn not even the code is in the cache.
  for (size_t i = 0; i < std::max<size_t>(1, batch / 4); ++i) contestant.Run();
  for (double& figure : figures) {
    if (cold) {
      // Not before all have seen the end of the last sample: whoever evicts keeps its processor for
      // milliseconds.
      barrier.Wait();
      contestant.Evict();
    }
    barrier.Wait();
    const Clock::time_point start = Clock::now();
    for (size_t i = 0; i < batch; ++i) contestant.Run();
    figure = NanosecondsSince(start) / static_cast<double>(batch);
  }
  std::string answer = "ok";
  for (const double figure : figures) absl::StrAppendFormat(&answer, " %.1f", figure);
  return answer;
}

std::string Answer(const std::string& line, Contestant& contestant, Barrier& barrier) {
  const Words words = absl::StrSplit(line, ' ', absl::SkipWhitespace());
  if (words.size() == 3 && words[0] == "prepare") return Prepare(words, contestant, barrier);
  if (words.size() == 4 && words[0] == "run") return Time(words, contestant, barrier);
  if (line == "drop") {
    contestant.Drop();
    return "ok";
  }
  Die(absl::StrCat("no such command: ", line));
}

}  // namespace

void Die(const std::string& message) {
  std::fprintf(stderr, "bench: %s\n", message.c_str());
  // Without destructors: the libraries under test may wait for other ranks in theirs.
  std::_Exit(1);
}

Arguments ParseArguments(int argc, char** argv) {
  if (argc != 7) Die("usage: NAME RANK WORLD_SIZE CONTROL_SOCKET BARRIER_FILE SCRATCH_FOLDER");
  const auto place = Place{.rank = static_cast<uint32_t>(ToNumber(argv[2])),
                           .world_size = static_cast<uint32_t>(ToNumber(argv[3]))};
  return {
      .name = argv[1], .place = place, .control = argv[4], .barrier = argv[5], .scratch = argv[6]};
}

int Serve(const Arguments& arguments, uint32_t parties, const std::string& description,
          Contestant& contestant) {
  Barrier barrier(arguments.barrier, parties);
  Line line(arguments.control);
  line.Write(absl::StrCat(arguments.name, " ", arguments.place.rank, " ", description));
  while (const std::optional<std::string> command = line.Read()) {
    line.Write(Answer(*command, contestant, barrier));
  }
  return 0;
}

}  // namespace tutti::bench
