// What only an all_to_all needs: rows of sizes, and the exchange between ranks of one node.
//
// Pure and thread-safe.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "backends/backend.h"
#include "backends/gloo/topology.h"
#include "backends/local/kernels.h"

namespace tutti {

// What ranks have for each other, as it travels. Fails with kInternal if a rank has not one buffer
// for each other, naming it.
absl::Status EncodeRows(const Collective& collective, std::string* rows);

// How long the rows of `ranks` ranks are.
size_t RowsBytes(size_t ranks, size_t world_size);

// `rows`, by node. Fails with kInternal if some are not as long as their ranks' rows are.
absl::Status DecodeRows(const std::vector<std::string_view>& rows, const Topology& topology,
                        Splits* splits);

// Whether all expect what the others have.
bool Match(const Splits& splits);

// What ranks on this node have for each other. REQUIRES: sizes match.
void ExchangeLocally(const Collective& collective, const KernelTable& kernels);

}  // namespace tutti
