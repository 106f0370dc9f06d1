#include "backends/gloo/gloo_mesh.h"

#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/device.h>
#include <gloo/transport/unbound_buffer.h>

#include <exception>
#include <functional>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace tutti {
namespace {

using std::chrono::milliseconds;

// Gloo has no "for ever": ten years.
constexpr milliseconds kForever = std::chrono::hours(24 * 365 * 10);

// Gloo waits five times as long for each connection: half a minute.
constexpr milliseconds kConnectTimeout = std::chrono::seconds(6);

// Nobody sends a message of this tag. Those of collectives and transfers are far from it.
constexpr uint64_t kWatchTag = ~uint64_t{0};

// In front of what each node publishes, to tell it from another backend's.
constexpr std::string_view kBlobMagic = "tutti gloo 1\n";

// `spec.meet` or what it brought is no good; carries why through Gloo.
class MeetingFailed : public std::runtime_error {
 public:
  explicit MeetingFailed(absl::Status why)
      : std::runtime_error(std::string(why.message())), status(std::move(why)) {}
  const absl::Status status;
};

// What Gloo finds its peers by: a key for each node's name, which it needs for nothing that we use,
// and one for its addresses. Setting these is the meeting.
class MeetStore final : public gloo::rendezvous::Store {
 public:
  explicit MeetStore(const GroupSpec& spec) : spec_(spec) {}

  void set(const std::string& key, const std::vector<char>& data) override {
    if (key != absl::StrCat(spec_.node)) return;
    auto met =
        spec_.meet(absl::StrCat(std::string(kBlobMagic), std::string(data.begin(), data.end())));
    if (!met.ok()) throw MeetingFailed(met.status());
    if (met->size() != spec_.nodes.size()) throw MeetingFailed(absl::InternalError("who is there"));
    for (size_t node = 0; node < met->size(); ++node) {
      const std::string_view blob = (*met)[node];
      if (blob.size() != kBlobMagic.size() + data.size() || !blob.starts_with(kBlobMagic)) {
        throw MeetingFailed(absl::InternalError(
            absl::StrCat("node ", node, " connects by something else than this gloo backend")));
      }
      addresses_.emplace_back(blob.begin() + kBlobMagic.size(), blob.end());
    }
  }

  std::vector<char> get(const std::string& key) override {
    for (size_t node = 0; node < addresses_.size(); ++node) {
      if (key == absl::StrCat(node)) return addresses_[node];
    }
    return {};
  }

  // All is here, or never will be.
  void wait(const std::vector<std::string>&) override {}

 private:
  const GroupSpec& spec_;
  std::vector<std::vector<char>> addresses_;
};

}  // namespace

class GlooMesh::GlooMessage final : public Mesh::Message, private GlooLoop::Task {
 public:
  GlooMessage(GlooMesh* mesh, size_t peer, bool sends, std::byte* data, size_t size_bytes)
      : mesh_(*mesh), peer_(peer), sends_(sends), buffer_(mesh->MakeBuffer(data, size_bytes)) {}

  ~GlooMessage() override {
    mesh_.loop_->Cancel(this);
    mesh_.Leave(this);
  }

  void Post(uint64_t tag) {
    tag_ = tag;
    failed_ = mesh_.Enter(this);
    if (failed_.ok()) mesh_.loop_->Post(this);
  }

  absl::Status Wait() override {
    if (!failed_.ok()) return failed_;
    try {
      if (WaitFor(kForever)) return absl::OkStatus();
      // Woken up. What had arrived before the connection broke counts. If it had not, this wait
      // ends all other connections too, as would whoever is told of the failure.
      const MutexLock closing(&mesh_.closing_);
      if (mesh_.Condemn(peer_) && WaitFor(milliseconds(1))) return absl::OkStatus();
    } catch (const std::exception& error) {
      mesh_.Lose(peer_, error.what());
    }
    return mesh_.WhyFailed(peer_);
  }

  // Makes Wait return, now or when it is called. From any thread, while it is entered.
  void Wake() {
    if (sends_) {
      buffer_->abortWaitSend();
    } else {
      buffer_->abortWaitRecv();
    }
  }

  size_t peer() const { return peer_; }

 private:
  void Run() override {
    if (!mesh_.closing_.TryLock()) return mesh_.Lose(peer_, "its connection is being closed");
    if (!mesh_.aborted()) PostNow();
    mesh_.closing_.Unlock();
  }

  void PostNow() {
    try {
      if (sends_) {
        buffer_->send(static_cast<int>(peer_), tag_);
      } else {
        buffer_->recv(static_cast<int>(peer_), tag_);
      }
    } catch (const std::exception& error) {
      mesh_.Lose(peer_, error.what());  // which wakes whoever waits for this
    }
  }

  bool WaitFor(milliseconds timeout) {
    return sends_ ? buffer_->waitSend(timeout) : buffer_->waitRecv(timeout);
  }

  GlooMesh& mesh_;
  const size_t peer_;
  const bool sends_;
  const std::unique_ptr<gloo::transport::UnboundBuffer> buffer_;
  uint64_t tag_ = 0;
  absl::Status failed_;
};

absl::StatusOr<std::unique_ptr<GlooMesh>> GlooMesh::Connect(std::shared_ptr<GlooLoop> loop,
                                                            const GroupSpec& spec) {
  try {
    auto context = std::make_shared<gloo::rendezvous::Context>(static_cast<int>(spec.node),
                                                               static_cast<int>(spec.nodes.size()));
    context->setTimeout(kConnectTimeout);
    MeetStore store(spec);
    std::shared_ptr<gloo::transport::Device> device = loop->device();
    context->connectFullMesh(store, device);
    return std::unique_ptr<GlooMesh>(
        new GlooMesh(std::move(loop), std::move(context), spec.nodes.size(), spec.node));
  } catch (const MeetingFailed& error) {
    return error.status;
  } catch (const std::exception& error) {
    return absl::UnavailableError(absl::StrCat("cannot connect node ", spec.node, " of ",
                                               spec.nodes.size(), " in epoch ", spec.epoch_id, ": ",
                                               error.what()));
  }
}

GlooMesh::GlooMesh(std::shared_ptr<GlooLoop> loop, std::shared_ptr<gloo::Context> context,
                   size_t nodes, size_t node)
    : loop_(std::move(loop)),
      nodes_(nodes),
      node_(node),
      context_(std::move(context)),
      lost_(nodes) {
  watcher_ = std::make_unique<Thread>("gloo-watch", [this] { Watch(); });
}

GlooMesh::~GlooMesh() {
  {
    MutexLock lock(&mutex_);
    TUTTI_CHECK(messages_.empty());
    ending_ = true;
    if (watched_ != nullptr) watched_->abortWaitRecv();
  }
  watcher_.reset();
}

std::unique_ptr<gloo::transport::UnboundBuffer> GlooMesh::MakeBuffer(std::byte* data,
                                                                     size_t size_bytes) {
  return context_->createUnboundBuffer(data, size_bytes);
}

std::unique_ptr<Mesh::Message> GlooMesh::Send(size_t to, uint64_t tag, const std::byte* data,
                                              size_t size_bytes) {
  // Gloo has one type for both; it only reads what is sent.
  auto message = std::make_unique<GlooMessage>(this, to, /*sends=*/true,
                                               const_cast<std::byte*>(data), size_bytes);
  message->Post(tag);
  return message;
}

std::unique_ptr<Mesh::Message> GlooMesh::Receive(size_t from, uint64_t tag, std::byte* data,
                                                 size_t size_bytes) {
  auto message = std::make_unique<GlooMessage>(this, from, /*sends=*/false, data, size_bytes);
  message->Post(tag);
  return message;
}

bool GlooMesh::aborted() {
  MutexLock lock(&mutex_);
  return aborted_;
}

void GlooMesh::Abort() {
  MutexLock lock(&mutex_);
  if (aborted_) return;
  aborted_ = true;
  for (GlooMessage* const message : messages_) message->Wake();
  if (watched_ != nullptr) watched_->abortWaitRecv();
}

absl::Status GlooMesh::Enter(GlooMessage* message) {
  {
    MutexLock lock(&mutex_);
    messages_.insert(message);
    if (!aborted_ && lost_[message->peer()].empty()) return absl::OkStatus();
  }
  return WhyFailed(message->peer());
}

void GlooMesh::Leave(GlooMessage* message) {
  MutexLock lock(&mutex_);
  messages_.erase(message);
}

absl::Status GlooMesh::WhyFailed(size_t node) {
  MutexLock lock(&mutex_);
  if (aborted_) return absl::AbortedError("the communicator was aborted");
  return absl::UnavailableError(lost_[node]);
}

void GlooMesh::Lose(size_t node, const std::string& reason) {
  MutexLock lock(&mutex_);
  if (!lost_[node].empty()) return;
  // In front of what Gloo says is where in its sources it says so.
  const size_t where = reason.find("] ");
  lost_[node] = condemned_.empty()
                    ? absl::StrCat("node ", node, " is lost: ",
                                   where == std::string::npos ? reason : reason.substr(where + 2))
                    : condemned_;
  for (GlooMessage* const message : messages_) {
    if (message->peer() == node) message->Wake();
  }
}

bool GlooMesh::Condemn(size_t node) {
  MutexLock lock(&mutex_);
  if (condemned_.empty()) condemned_ = lost_[node];
  return !aborted_;
}

void GlooMesh::Watch() {
  for (;;) {
    WatchOnce();
    {
      MutexLock lock(&mutex_);
      // Soft: the destructor of the context lets what was sent arrive.
      if (ending_ && !aborted_) return;
      if (!aborted_) continue;
    }
    const MutexLock closing(&closing_);
    context_->closeConnections();
    return;
  }
}

void GlooMesh::WatchOnce() {
  std::byte never{};
  const auto buffer = MakeBuffer(&never, sizeof(never));
  for (size_t node = 0; node < nodes_; ++node) {
    {
      MutexLock lock(&mutex_);
      if (node == node_ || !lost_[node].empty()) continue;
    }
    try {
      buffer->recv(static_cast<int>(node), kWatchTag);
    } catch (const std::exception& error) {
      // Told as what the connection broke of, which is what woke this up.
      Lose(node, error.what());
    }
  }
  {
    MutexLock lock(&mutex_);
    if (ending_ || aborted_) return;
    watched_ = buffer.get();
  }
  try {
    buffer->waitRecv(kForever);
  } catch (const std::exception&) {
    // A connection has broken; the next round finds out which.
  }
  MutexLock lock(&mutex_);
  watched_ = nullptr;
}

}  // namespace tutti
