// One rank of an allreduce. In as many shells as there are ranks:
//
//   allreduce RANK WORLD_SIZE
#include <cstdlib>
#include <iostream>

#include "client/cpp/tutti.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: allreduce RANK WORLD_SIZE\n";
    return 2;
  }
  const auto rank = static_cast<tutti::Rank>(std::atoi(argv[1]));
  const auto world_size = static_cast<uint32_t>(std::atoi(argv[2]));

  auto client = tutti::Client::Connect({});
  if (!client.ok()) {
    std::cerr << client.status().message() << "\n";
    return 1;
  }
  auto group = (*client)->Join({.group = "example", .rank = rank, .world_size = world_size});
  if (!group.ok()) {
    std::cerr << group.failure().message << "\n";
    return 1;
  }
  auto tensor = (*client)->NewTensor(tutti::DataType::kFloat32, 1 << 20);
  if (!tensor.ok()) {
    std::cerr << tensor.status().message() << "\n";
    return 1;
  }
  for (float& element : tensor->data<float>()) element = static_cast<float>(rank + 1);

  if (auto failure = group->AllReduce(*tensor, tutti::ReduceOp::kSum).Wait()) {
    std::cerr << failure->message << "\n";
    return 1;
  }
  std::cout << "rank " << rank << " of " << world_size << ": every element is "
            << tensor->data<float>()[0] << "\n";
}
