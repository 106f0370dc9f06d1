#include "backends/gloo/all_to_all.h"

#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/failpoint.h"

namespace tutti {
namespace {

void Append(uint64_t value, std::string* rows) {
  rows->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

uint64_t Next(std::string_view* rows) {
  uint64_t value = 0;
  std::memcpy(&value, rows->data(), sizeof(value));
  rows->remove_prefix(sizeof(value));
  return value;
}

void Copy(const Buffer& from, const Buffer& to) {
  if (from.size_bytes > 0 && from.data != to.data) std::memcpy(to.data, from.data, from.size_bytes);
}

void ExchangePair(const Participant& a, const Participant& b, const KernelTable& kernels) {
  const Buffer& a_in = a.inputs[b.rank];
  const Buffer& b_in = b.inputs[a.rank];
  const Buffer& a_out = a.outputs[b.rank];
  const Buffer& b_out = b.outputs[a.rank];
  const bool in_place = a_in.data == a_out.data || b_in.data == b_out.data;
  // In place, one buffer of each direction has the size of the other's.
  if (in_place && a_in.size_bytes == b_in.size_bytes && !Mutated("gloo.lose_exchange")) {
    kernels.exchange({.a_in = a_in.data,
                      .b_in = b_in.data,
                      .a_out = a_out.data,
                      .b_out = b_out.data,
                      .count = a_in.size_bytes});
    return;
  }
  Copy(a_in, b_out);
  Copy(b_in, a_out);
}

}  // namespace

size_t RowsBytes(size_t ranks, size_t world_size) {
  return ranks * world_size * 2 * sizeof(uint64_t);
}

absl::Status EncodeRows(const Collective& collective, std::string* rows) {
  rows->clear();
  for (const Participant& rank : collective.participants) {
    if (rank.inputs.size() != collective.world_size ||
        rank.outputs.size() != collective.world_size) {
      return absl::InternalError(absl::StrCat("the buffers of rank ", rank.rank, " do not fit ",
                                              NameOf(collective.kind), " of ",
                                              collective.world_size, " ranks"));
    }
    for (const Buffer& input : rank.inputs) Append(input.size_bytes, rows);
    for (const Buffer& output : rank.outputs) Append(output.size_bytes, rows);
  }
  return absl::OkStatus();
}

absl::Status DecodeRows(const std::vector<std::string_view>& rows, const Topology& topology,
                        Splits* splits) {
  const size_t world_size = topology.world_size();
  splits->world_size = static_cast<uint32_t>(world_size);
  splits->sent.assign(world_size * world_size, 0);
  splits->expected.assign(world_size * world_size, 0);
  for (size_t node = 0; node < topology.nodes(); ++node) {
    std::string_view left = rows[node];
    if (left.size() != RowsBytes(topology.ranks[node].size(), world_size)) {
      return absl::InternalError(
          absl::StrCat("node ", node, " sent ", left.size(), " bytes of sizes"));
    }
    for (const Rank rank : topology.ranks[node]) {
      for (size_t to = 0; to < world_size; ++to) splits->sent[rank * world_size + to] = Next(&left);
      for (size_t from = 0; from < world_size; ++from) {
        splits->expected[from * world_size + rank] = Next(&left);
      }
    }
  }
  return absl::OkStatus();
}

bool Match(const Splits& splits) { return splits.sent == splits.expected; }

void ExchangeLocally(const Collective& collective, const KernelTable& kernels) {
  const std::vector<Participant>& ranks = collective.participants;
  for (size_t i = 0; i < ranks.size(); ++i) {
    Copy(ranks[i].inputs[ranks[i].rank], ranks[i].outputs[ranks[i].rank]);
    for (size_t k = i + 1; k < ranks.size(); ++k) ExchangePair(ranks[i], ranks[k], kernels);
  }
}

}  // namespace tutti
