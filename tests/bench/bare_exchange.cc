#include "tests/bench/bare_exchange.h"

#include <sys/prctl.h>

#include <csignal>

#include "absl/strings/str_cat.h"
#include "tests/bench/barrier.h"

namespace tutti::bench {
namespace {

int RunServer(const Arguments& arguments, const BareProgram& program) {
  // It has no control socket whose end would end it.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const std::unique_ptr<BareServer> server = program.make_server(arguments);
  Barrier(arguments.barrier, arguments.place.world_size + 1).Wait();
  server->Serve();
  return 0;
}

}  // namespace

std::string BareExchange::Check() {
  const uint64_t wanted = uint64_t{place_.world_size} * (place_.world_size + 1) / 2;
  if (sum_ == wanted) return "";
  return absl::StrCat("rank ", place_.rank, ": the tokens of all ranks are ", sum_, " instead of ",
                      wanted);
}

int RunBareProgram(int argc, char** argv, const BareProgram& program) {
  const Arguments arguments = ParseArguments(argc, argv);
  const uint32_t ranks = arguments.place.world_size;
  if (arguments.place.rank == ranks) return RunServer(arguments, program);
  // With the server; the ranks alone meet there from then on.
  Barrier(arguments.barrier, ranks + 1).Wait();
  const std::unique_ptr<BareExchange> client = program.make_client(arguments);
  return Serve(arguments, ranks, program.description, *client);
}

}  // namespace tutti::bench
