#include "backends/local/kernels.h"

namespace tutti {

bool CanRun(const KernelTable& table) {
  // These ask the operating system's part too: whether it saves the registers.
  if (&table == &kAvx512Kernels) {
    return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
           __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
  }
  // F16C is older than AVX2: every processor that has this has that.
  if (&table == &kAvx2Kernels) return __builtin_cpu_supports("avx2") != 0;
  return true;
}

const KernelTable& Kernels() {
  static const KernelTable& best = CanRun(kAvx512Kernels) ? kAvx512Kernels
                                   : CanRun(kAvx2Kernels) ? kAvx2Kernels
                                                          : kSse2Kernels;
  return best;
}

}  // namespace tutti
