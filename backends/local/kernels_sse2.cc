// The kernels for sse2. kernel_templates.h says what such a file may contain.
#include "backends/local/kernel_table.h"

namespace tutti {

constexpr KernelTable kSse2Kernels = MakeTable("sse2");

}  // namespace tutti
