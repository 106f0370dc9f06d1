// Contestant: Open MPI. Built only where it is installed (tests/bench/install); run by mpirun,
// which gives the ranks.
#include <mpi.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/bench/rank_contestant.h"

namespace tutti::bench {
namespace {

void Must(int status) {
  if (status != MPI_SUCCESS) Die(absl::StrCat("MPI error ", status));
}

class MpiRank : public RankContestant {
 public:
  using RankContestant::RankContestant;

  bool Supports(Operation) const override { return true; }

 protected:
  Buffers MakeBuffers(const Shape& shape) override { return memory_.Make(shape); }
  void FreeBuffers() override { memory_.Free(); }

  void RunOperation(Operation operation) override {
    float* const in = memory_.inputs();
    float* const out = memory_.outputs();
    const int count = static_cast<int>(shape().count);
    constexpr int kMpiRoot = kRoot;
    const MPI_Comm all = MPI_COMM_WORLD;
    switch (operation) {
      case Operation::kAllReduce:
        return Must(MPI_Allreduce(MPI_IN_PLACE, in, count, MPI_FLOAT, MPI_SUM, all));
      case Operation::kReduce:
        return Must(is_root() ? MPI_Reduce(MPI_IN_PLACE, in, count, MPI_FLOAT, MPI_SUM, kRoot, all)
                              : MPI_Reduce(in, nullptr, count, MPI_FLOAT, MPI_SUM, kRoot, all));
      case Operation::kBroadcast:
        return Must(MPI_Bcast(is_root() ? in : out, count, MPI_FLOAT, kMpiRoot, all));
      case Operation::kAllGather:
        return Must(MPI_Allgather(in, count, MPI_FLOAT, out, count, MPI_FLOAT, all));
      case Operation::kGather:
        return Must(MPI_Gather(in, count, MPI_FLOAT, out, count, MPI_FLOAT, kMpiRoot, all));
      case Operation::kScatter:
        return Must(MPI_Scatter(in, count, MPI_FLOAT, out, count, MPI_FLOAT, kMpiRoot, all));
      case Operation::kReduceScatter:
        return Must(MPI_Reduce_scatter_block(in, out, count, MPI_FLOAT, MPI_SUM, all));
      case Operation::kAllToAll:
        return Must(MPI_Alltoall(in, count, MPI_FLOAT, out, count, MPI_FLOAT, all));
      case Operation::kSendRecv:
        return SendOrReceive(count);
    }
  }

 private:
  void SendOrReceive(int count) {
    const int rank = static_cast<int>(place().rank);
    if (sends()) {
      Must(MPI_Send(memory_.inputs(), count, MPI_FLOAT, rank + 1, 0, MPI_COMM_WORLD));
    } else {
      Must(MPI_Recv(memory_.outputs(), count, MPI_FLOAT, rank - 1, 0, MPI_COMM_WORLD,
                    MPI_STATUS_IGNORE));
    }
  }

  PlainMemory memory_;
};

// How large messages between processes are copied: once (by CMA, when the kernel allows it), or
// through shared memory. Open MPI falls back in silence, so this is asked after it has started.
std::string SingleCopyMechanism() {
  int provided = 0;
  int index = 0;
  if (MPI_T_init_thread(MPI_THREAD_SINGLE, &provided) != MPI_SUCCESS) return "unknown";
  if (MPI_T_cvar_get_index("btl_vader_single_copy_mechanism", &index) != MPI_SUCCESS) {
    return "unknown";
  }
  MPI_T_cvar_handle handle;
  int count = 0;
  int value = 0;
  Must(MPI_T_cvar_handle_alloc(index, nullptr, &handle, &count));
  Must(MPI_T_cvar_read(handle, &value));
  int name_length = 0, verbosity = 0, help_length = 0, binding = 0, scope = 0;
  MPI_Datatype type;
  MPI_T_enum values;
  Must(MPI_T_cvar_get_info(index, nullptr, &name_length, &verbosity, &type, &values, nullptr,
                           &help_length, &binding, &scope));
  int values_count = 0;
  Must(MPI_T_enum_get_info(values, &values_count, nullptr, &name_length));
  for (int item = 0; item < values_count; ++item) {
    char name[64] = {};
    int number = 0;
    int length = sizeof(name);
    Must(MPI_T_enum_get_item(values, item, &number, name, &length));
    if (number == value) return name;
  }
  return "unknown";
}

std::string Description() {
  char version[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  Must(MPI_Get_library_version(version, &length));
  const std::string first = std::string(version).substr(0, std::string(version).find(','));
  return absl::StrCat(first, ", btl vader, single copy: ", SingleCopyMechanism());
}

int Main(int argc, char** argv) {
  Must(MPI_Init(&argc, &argv));
  Arguments arguments = ParseArguments(argc, argv);
  int rank = 0;
  Must(MPI_Comm_rank(MPI_COMM_WORLD, &rank));
  arguments.place.rank = static_cast<uint32_t>(rank);
  MpiRank contestant(arguments.place);
  const int status = Serve(arguments, arguments.place.world_size, Description(), contestant);
  MPI_Finalize();
  return status;
}

}  // namespace
}  // namespace tutti::bench

int main(int argc, char** argv) { return tutti::bench::Main(argc, argv); }
