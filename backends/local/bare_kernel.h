// The bare kernel: a sum of float32 in place over plain arrays, as fast as this machine does it.
// What the local backend is held against; used by kernel_bench only.
#pragma once

#include <cstddef>

namespace tutti {

// Sums elements `first` to `first + count - 1` of the arrays into all of them. `count` is a
// multiple of 64.
using BareKernel = void (*)(float* const* arrays, size_t first, size_t count);

// For 2, 4 or 8 arrays; else null.
BareKernel FindBareKernel(size_t arrays);

}  // namespace tutti
