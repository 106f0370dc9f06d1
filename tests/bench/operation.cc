#include "tests/bench/operation.h"

namespace tutti::bench {
namespace {

struct Name {
  std::string_view name;
  Operation operation;
};

constexpr Name kNames[] = {
    {"allreduce", Operation::kAllReduce},
    {"reduce", Operation::kReduce},
    {"broadcast", Operation::kBroadcast},
    {"allgather", Operation::kAllGather},
    {"gather", Operation::kGather},
    {"scatter", Operation::kScatter},
    {"reduce_scatter", Operation::kReduceScatter},
    {"all_to_all", Operation::kAllToAll},
    {"sendrecv", Operation::kSendRecv},
};

float SumOfInputs(uint32_t world_size, size_t part, size_t index) {
  float sum = 0;
  for (uint32_t rank = 0; rank < world_size; ++rank) sum += InputValue(rank, part, index);
  return sum;
}

}  // namespace

std::optional<Operation> OperationNamed(std::string_view name) {
  for (const Name& known : kNames) {
    if (known.name == name) return known.operation;
  }
  return std::nullopt;
}

Shape ShapeOf(Operation operation, const Place& place, size_t bytes) {
  const size_t all = bytes / sizeof(float);
  const size_t parts = place.world_size;
  const size_t share = all / parts;
  const bool is_root = place.rank == kRoot;
  switch (operation) {
    case Operation::kAllReduce:
      return {.inputs = 1, .outputs = 1, .count = all, .in_place = true};
    case Operation::kReduce:
      return {.inputs = 1, .outputs = is_root ? 1u : 0u, .count = all, .in_place = true};
    case Operation::kBroadcast:
      return {.inputs = is_root ? 1u : 0u, .outputs = is_root ? 0u : 1u, .count = all};
    case Operation::kAllGather:
      return {.inputs = 1, .outputs = parts, .count = share};
    case Operation::kGather:
      return {.inputs = 1, .outputs = is_root ? parts : 0, .count = share};
    case Operation::kScatter:
      return {.inputs = is_root ? parts : 0, .outputs = 1, .count = share};
    case Operation::kReduceScatter:
      return {.inputs = parts, .outputs = 1, .count = share};
    case Operation::kAllToAll:
      return {.inputs = parts, .outputs = parts, .count = share};
    case Operation::kSendRecv: {
      const bool receives = place.rank % 2 == 1;
      return {.inputs = receives ? 0u : 1u, .outputs = receives ? 1u : 0u, .count = all};
    }
  }
  return {};
}

float InputValue(uint32_t rank, size_t part, size_t index) {
  // 997 is prime: no two pages, lines or parts look alike.
  return static_cast<float>(1 + rank + 10 * part + index % 997);
}

float ResultValue(Operation operation, const Place& place, size_t part, size_t index) {
  switch (operation) {
    case Operation::kAllReduce:
    case Operation::kReduce:
      return SumOfInputs(place.world_size, 0, index);
    case Operation::kBroadcast:
      return InputValue(kRoot, 0, index);
    case Operation::kAllGather:
    case Operation::kGather:
      return InputValue(static_cast<uint32_t>(part), 0, index);
    case Operation::kScatter:
      return InputValue(kRoot, place.rank, index);
    case Operation::kReduceScatter:
      return SumOfInputs(place.world_size, place.rank, index);
    case Operation::kAllToAll:
      return InputValue(static_cast<uint32_t>(part), place.rank, index);
    case Operation::kSendRecv:
      return InputValue(place.rank - 1, 0, index);
  }
  return 0;
}

}  // namespace tutti::bench
