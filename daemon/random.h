// Random bytes from the kernel: for what others must not guess, or have as well.
//
// Thread-safe: free functions without state.
#pragma once

#include <cstddef>
#include <string>

namespace tutti {

// REQUIRES: size <= 256.
void FillRandom(void* bytes, size_t size);

std::string RandomBytes(size_t size);

}  // namespace tutti
