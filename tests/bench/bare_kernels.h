// The bare kernel: an allreduce (float32, sum, in place) over the plain memory of one process. It
// reads each input once and writes each output once, and knows no ranks, daemons or messages: what
// is left is what the memory of this machine gives. All that others measure is compared with it.
//
// Several variants, because no single one is the best on all machines and for all n.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace tutti::bench {

// Replaces elements [begin, end) of each of the `count` buffers by their sum over the buffers. The
// buffers are aligned to 64 bytes, and so are the bounds or the end of the buffer.
using Kernel = void (*)(float* const* buffers, size_t count, size_t begin, size_t end);

struct Variant {
  std::string name;
  Kernel kernel = nullptr;
};

// All variants for 2, 4 or 8 buffers; none for another number.
std::vector<Variant> VariantsFor(size_t buffers);

}  // namespace tutti::bench
