// The kernels for avx2. kernel_templates.h says what such a file may contain.
#include "backends/local/kernel_table.h"

namespace tutti {

constexpr KernelTable kAvx2Kernels = MakeTable("avx2");

}  // namespace tutti
