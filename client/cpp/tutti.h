// The C++ client of Tutti: collectives between processes of one node, executed by its daemon.
//
//   auto client = tutti::Client::Connect({});
//   auto group = (*client)->Join({.group = "dp", .rank = rank, .world_size = 4});
//   auto tensor = (*client)->NewTensor(tutti::DataType::kFloat32, 1024);
//   if (auto failure = group->AllReduce(*tensor, tutti::ReduceOp::kSum).Wait()) { ... }
//
// Operations take Tensors, and plain memory at the price of copies: see tensor_ref.h.
//
// Everything here is thread-safe unless it says otherwise. Nothing here survives a fork: in the
// child every call fails, naming the fork; connect again there.
#pragma once

#include "client/cpp/client.h"      // IWYU pragma: export
#include "client/cpp/group.h"       // IWYU pragma: export
#include "client/cpp/tensor.h"      // IWYU pragma: export
#include "client/cpp/tensor_ref.h"  // IWYU pragma: export
#include "client/cpp/work.h"        // IWYU pragma: export
