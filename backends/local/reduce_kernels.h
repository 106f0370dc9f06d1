// The inner loops of the local backend: plain functions over ranges of elements, chosen by type and
// operation. Pure and thread-safe.
//
// Per element, inputs are combined one after the other in the order given, whatever the range: so
// the bits of a result depend neither on how a collective is cut into chunks nor on who ran which.
// (A backend for a wider instruction set adds a table of kernels, and FindReduceKernel picks.)
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/types.h"

namespace tutti {

// The buffers of one reduction, aligned to the element's size. An output may be the very same bytes
// as an input; otherwise no output overlaps anything else.
struct ReduceBuffers {
  std::vector<const std::byte*> inputs;  // at least one; combined in this order
  std::vector<std::byte*> outputs;       // each gets the result
  uint32_t divisor = 1;                  // what kAvg divides by
};

// Reduces elements `first` to `first + count - 1`. Reads each input once and writes each output
// once.
using ReduceKernel = void (*)(const ReduceBuffers& buffers, size_t first, size_t count);

// Null if there is none for these.
//   integers   wrap; kAvg is the wrapped sum, divided with truncation towards zero
//   floats     kMin and kMax of anything with a NaN are NaN; kAvg divides once, at the end
ReduceKernel FindReduceKernel(DataType dtype, ReduceOp op);

// Copies bytes `first` to `first + count - 1` of `source` to every output, which must not overlap
// it. Reads the source once from memory, however many outputs there are.
void CopyToAll(const std::byte* source, const std::vector<std::byte*>& outputs, size_t first,
               size_t count);

}  // namespace tutti
