#include "proto/grpc_library.h"

#include <grpc/grpc.h>

namespace tutti {

void KeepGrpcInitialized() {
  [[maybe_unused]] static const bool kept = [] {
    grpc_init();
    return true;
  }();
}

}  // namespace tutti
