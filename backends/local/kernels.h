// The inner loops of the local backend: plain functions over ranges of elements, chosen by type and
// operation. Pure and thread-safe.
//
// The same source is compiled once for each instruction set (kernels_sse2.cc, kernels_avx2.cc,
// kernels_avx512.cc), and all of them give the same bits. Per element, inputs are combined one
// after the other in the order given, whatever the range: so the bits of a result depend neither on
// how a collective is cut into chunks, nor on who ran which, nor on the processor.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/types.h"

namespace tutti {

// A range of one reduction. Elements may lie at any address. An output may be the very same bytes
// as an input; otherwise no output overlaps anything else. (Pointers and counts only: no template
// of the standard library may be compiled for more than one instruction set, see kernels_avx2.cc.)
struct Reduction {
  const std::byte* const* inputs = nullptr;  // combined in this order
  size_t input_count = 0;                    // at least 1
  std::byte* const* outputs = nullptr;       // each gets the result
  size_t output_count = 0;
  // The last so many outputs are written past the caches. REQUIRES of those: no input is the same
  // bytes, and element `first` is at a multiple of kStreamAlignment.
  size_t streamed = 0;
  size_t first = 0;  // elements
  size_t count = 0;
  uint32_t divisor = 1;  // what kAvg divides by
};

inline constexpr size_t kStreamAlignment = 64;

// Reads each input once and writes each output once.
using ReduceKernel = void (*)(const Reduction& range);

// Two buffers of bytes that change places: `a_out` gets what was in `b_in`, and `b_out` what was in
// `a_in`. `a_out` may be `a_in` and `b_out` may be `b_in`; otherwise no output overlaps anything.
struct Exchange {
  const std::byte* a_in = nullptr;
  const std::byte* b_in = nullptr;
  std::byte* a_out = nullptr;
  std::byte* b_out = nullptr;
  size_t first = 0;  // bytes
  size_t count = 0;
};
using ExchangeKernel = void (*)(const Exchange& range);

inline constexpr size_t kDataTypes = static_cast<size_t>(DataType::kFloat64) + 1;
inline constexpr size_t kReduceOps = static_cast<size_t>(ReduceOp::kAvg) + 1;

// All kernels for one instruction set.
struct KernelTable {
  const char* name = nullptr;
  // Null if there is none for these.
  //   integers  wrap; kAvg is the wrapped sum, divided with truncation towards zero
  //   floats    kMin and kMax of anything with a NaN are NaN, of -0 and 0 the first; kAvg divides
  //             once, at the end; a NaN that comes out is the quiet one without sign and payload
  //   float16, bfloat16: as float32, and rounded once at the end, to nearest even
  //   bool      any byte but 0 is true, results are 0 and 1; kSum is "any" as kMax, kProduct is
  //             "all" as kMin; there is no kAvg
  ReduceKernel reduce[kDataTypes][kReduceOps] = {};
  // Copies bytes: a Reduction with one input and elements of one byte.
  ReduceKernel copy = nullptr;
  ExchangeKernel exchange = nullptr;
};

extern const KernelTable kSse2Kernels;
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;

// The widest that this processor can run; found out once.
const KernelTable& Kernels();

// Whether this processor can run `table`.
bool CanRun(const KernelTable& table);

}  // namespace tutti
