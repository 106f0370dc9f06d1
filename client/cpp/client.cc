#include "client/cpp/client.h"

#include <utility>

#include "client/cpp/connection.h"
#include "client/cpp/seat.h"

namespace tutti {
inline namespace client {
namespace {

// For joins that leave the deadline to a daemon that has not said what it is.
constexpr absl::Duration kJoinTimeout = absl::Minutes(5);

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const ClientOptions& options) {
  absl::StatusOr<std::shared_ptr<Connection>> connection = Connection::Open(options);
  if (!connection.ok()) return connection.status();
  return std::unique_ptr<Client>(new Client(*std::move(connection)));
}

Client::Client(std::shared_ptr<Connection> connection) : connection_(std::move(connection)) {}

Client::~Client() {
  if (connection_->Forked().has_value()) {
    // A child has none of the threads, and its locks may be held for ever: kept, untouched.
    static_cast<void>(new std::shared_ptr<Connection>(std::move(connection_)));
    return;
  }
  connection_->Close();
}

absl::StatusOr<Tensor> Client::NewTensor(DataType dtype, size_t count) {
  Result<Tensor> tensor = connection_->NewTensor(dtype, count);
  if (!tensor.ok()) return tensor.failure().ToStatus();
  return *std::move(tensor);
}

Result<Group> Client::Join(const JoinOptions& options) {
  v1::JoinGroupRequest request;
  request.set_group(options.group);
  request.set_rank(options.rank);
  request.set_world_size(options.world_size);
  request.set_backend(options.backend);
  request.set_work_timeout_ms(ToMilliseconds(options.work_timeout));
  request.set_join_timeout_ms(ToMilliseconds(options.join_timeout));
  absl::Duration timeout = options.join_timeout;
  if (timeout <= absl::ZeroDuration()) timeout = connection_->join_timeout();
  if (timeout <= absl::ZeroDuration()) timeout = kJoinTimeout;
  Result<v1::JoinGroupResponse> joined = connection_->Join(request, timeout + kGrace);
  if (!joined.ok()) return joined.failure();
  auto seat = std::make_shared<Seat>();
  seat->connection = connection_;
  seat->membership = joined->membership();
  seat->group = options.group;
  seat->epoch = joined->epoch();
  seat->rank = options.rank;
  seat->world_size = options.world_size;
  seat->work_timeout = joined->work_timeout_ms() > 0 ? absl::Milliseconds(joined->work_timeout_ms())
                                                     : options.work_timeout;
  return Group(std::move(seat));
}

uint64_t Client::session_id() const { return connection_->session_id(); }

}  // namespace client
}  // namespace tutti
