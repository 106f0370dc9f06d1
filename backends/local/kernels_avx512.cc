// The kernels for avx512. kernel_templates.h says what such a file may contain.
#include "backends/local/kernel_table.h"

namespace tutti {

constexpr KernelTable kAvx512Kernels = MakeTable("avx512");

}  // namespace tutti
