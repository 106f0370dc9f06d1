#include "backends/gloo/all_gather.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace tutti {
namespace {

// In front of each frame; in the byte order of the nodes, which are of one kind.
struct Header {
  uint32_t said_bytes = 0;
  uint32_t payload_bytes = 0;
};

}  // namespace

AllGather::AllGather(Mesh* mesh, size_t frame_bytes_max)
    : mesh_(mesh), frame_bytes_max_(frame_bytes_max) {
  const size_t nodes = mesh->nodes();
  for (Exchange& exchange : exchanges_) {
    for (size_t distance = 1; distance < nodes; distance *= 2) {
      Round round{.distance = distance, .frames = std::min(distance, nodes - distance)};
      // Not filled with zeros: most of it is never touched.
      round.memory.reset(new std::byte[RoundBytes(round)]);
      exchange.rounds.push_back(std::move(round));
    }
    TUTTI_CHECK(exchange.rounds.size() <= kTags);
    exchange.known.reset(new std::byte[nodes * (sizeof(Header) + frame_bytes_max)]);
  }
}

size_t AllGather::RoundBytes(const Round& round) const {
  return round.frames * (sizeof(Header) + frame_bytes_max_);
}

void AllGather::Post(uint64_t tag) {
  TUTTI_CHECK(posted_ - run_ < exchanges_.size());
  Exchange& exchange = exchanges_[posted_++ % exchanges_.size()];
  exchange.tag = tag;
  exchange.known_bytes = 0;
  for (size_t r = 0; r < exchange.rounds.size(); ++r) {
    Round& round = exchange.rounds[r];
    round.message =
        mesh_->Receive(Partner(round.distance), tag + r, round.memory.get(), RoundBytes(round));
  }
}

absl::Status AllGather::Run(const Frame& mine, std::vector<Frame>* frames) {
  TUTTI_CHECK(run_ < posted_);
  TUTTI_CHECK(mine.said.size() + mine.payload.size() <= frame_bytes_max_);
  const size_t nodes = mesh_->nodes();
  Exchange& exchange = exchanges_[run_++ % exchanges_.size()];
  Append(mine, &exchange);
  std::vector<std::unique_ptr<Mesh::Message>> sends;
  for (size_t r = 0; r < exchange.rounds.size(); ++r) {
    Round& round = exchange.rounds[r];
    // The frames that are passed on are the first ones: all, but in the last round.
    size_t bytes = 0;
    for (size_t i = 0; i < round.frames; ++i) {
      Header header;
      std::memcpy(&header, exchange.known.get() + bytes, sizeof(header));
      bytes += sizeof(header) + header.said_bytes + header.payload_bytes;
    }
    sends.push_back(mesh_->Send(Partner(nodes - round.distance), exchange.tag + r,
                                exchange.known.get(), bytes));
    if (absl::Status status = round.message->Wait(); !status.ok()) return status;
    round.message.reset();
    if (absl::Status status = Learn(round, &exchange); !status.ok()) return status;
  }
  for (const std::unique_ptr<Mesh::Message>& send : sends) {
    if (absl::Status status = send->Wait(); !status.ok()) return status;
  }
  frames->assign(nodes, {});
  const char* at = reinterpret_cast<const char*>(exchange.known.get());
  for (size_t i = 0; i < nodes; ++i) {
    Header header;
    std::memcpy(&header, at, sizeof(header));
    at += sizeof(header);
    (*frames)[Partner(i)] = {.said = {at, header.said_bytes},
                             .payload = {at + header.said_bytes, header.payload_bytes}};
    at += header.said_bytes + header.payload_bytes;
  }
  return absl::OkStatus();
}

void AllGather::Append(const Frame& frame, Exchange* exchange) {
  const Header header{.said_bytes = static_cast<uint32_t>(frame.said.size()),
                      .payload_bytes = static_cast<uint32_t>(frame.payload.size())};
  std::byte* to = exchange->known.get() + exchange->known_bytes;
  std::memcpy(to, &header, sizeof(header));
  to += sizeof(header);
  if (!frame.said.empty()) std::memcpy(to, frame.said.data(), frame.said.size());
  to += frame.said.size();
  if (!frame.payload.empty()) std::memcpy(to, frame.payload.data(), frame.payload.size());
  exchange->known_bytes += sizeof(header) + frame.said.size() + frame.payload.size();
}

absl::Status AllGather::Learn(const Round& round, Exchange* exchange) const {
  const char* at = reinterpret_cast<const char*>(round.memory.get());
  for (size_t i = 0; i < round.frames; ++i) {
    Header header;
    std::memcpy(&header, at, sizeof(header));
    at += sizeof(header);
    if (size_t{header.said_bytes} + header.payload_bytes > frame_bytes_max_) {
      return absl::InternalError(absl::StrCat("node ", Partner(round.distance), " sent a frame of ",
                                              header.said_bytes, " and ", header.payload_bytes,
                                              " bytes"));
    }
    Append({.said = {at, header.said_bytes},
            .payload = {at + header.said_bytes, header.payload_bytes}},
           exchange);
    at += header.said_bytes + header.payload_bytes;
  }
  return absl::OkStatus();
}

}  // namespace tutti
