// The table of all kernels, compiled for the instruction set of whoever includes this.
//
// Included by kernels_sse2.cc, kernels_avx2.cc and kernels_avx512.cc only, under the rules of
// kernel_templates.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/local/kernel_templates.h"
#include "backends/local/kernels.h"
#include "backends/local/lanes.h"

namespace tutti {
namespace {

template <template <typename, ReduceOp> class Lanes, typename T>
constexpr void Fill(KernelTable* table, DataType dtype) {
  ReduceKernel* const row = table->reduce[static_cast<size_t>(dtype)];
  row[static_cast<size_t>(ReduceOp::kSum)] = &Reduce<Lanes<T, ReduceOp::kSum>>;
  row[static_cast<size_t>(ReduceOp::kProduct)] = &Reduce<Lanes<T, ReduceOp::kProduct>>;
  row[static_cast<size_t>(ReduceOp::kMin)] = &Reduce<Lanes<T, ReduceOp::kMin>>;
  row[static_cast<size_t>(ReduceOp::kMax)] = &Reduce<Lanes<T, ReduceOp::kMax>>;
  row[static_cast<size_t>(ReduceOp::kAvg)] = &Reduce<Lanes<T, ReduceOp::kAvg>>;
}

constexpr KernelTable MakeTable(const char* name) {
  KernelTable table;
  table.name = name;
  ReduceKernel* const bools = table.reduce[static_cast<size_t>(DataType::kBool)];
  bools[static_cast<size_t>(ReduceOp::kSum)] = &Reduce<BoolLanes<ReduceOp::kMax>>;
  bools[static_cast<size_t>(ReduceOp::kProduct)] = &Reduce<BoolLanes<ReduceOp::kMin>>;
  bools[static_cast<size_t>(ReduceOp::kMin)] = &Reduce<BoolLanes<ReduceOp::kMin>>;
  bools[static_cast<size_t>(ReduceOp::kMax)] = &Reduce<BoolLanes<ReduceOp::kMax>>;
  Fill<IntegerLanes, uint8_t>(&table, DataType::kUint8);
  Fill<IntegerLanes, int8_t>(&table, DataType::kInt8);
  Fill<IntegerLanes, int32_t>(&table, DataType::kInt32);
  Fill<IntegerLanes, uint32_t>(&table, DataType::kUint32);
  Fill<IntegerLanes, int64_t>(&table, DataType::kInt64);
  Fill<IntegerLanes, uint64_t>(&table, DataType::kUint64);
  Fill<HalfLanes, Float16>(&table, DataType::kFloat16);
  Fill<HalfLanes, Bfloat16>(&table, DataType::kBfloat16);
  Fill<FloatLanes, float>(&table, DataType::kFloat32);
  Fill<FloatLanes, double>(&table, DataType::kFloat64);
  // With one input there is nothing to combine.
  table.copy = &Reduce<IntegerLanes<uint8_t, ReduceOp::kMax>>;
  table.exchange = &ExchangeBytes;
  return table;
}

}  // namespace
}  // namespace tutti
