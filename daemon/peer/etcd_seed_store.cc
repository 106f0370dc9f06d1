#include "daemon/peer/etcd_seed_store.h"

#include <google/protobuf/util/json_util.h>
#include <grpc/support/time.h>
#include <grpcpp/grpcpp.h>

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/peer/convert.h"
#include "daemon/peer/tcp.h"
#include "etcd/v3/rpc.grpc.pb.h"
#include "tutti/v1/peer.pb.h"

namespace tutti {
namespace {

namespace pb = etcdserverpb;

// A member that is down must not be asked for minutes after it is up again.
constexpr int kReconnectMsMax = 500;

std::shared_ptr<grpc::Channel> Open(const std::string& endpoint) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectMsMax / 5);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kReconnectMsMax);
  return grpc::CreateCustomChannel(GrpcAddress(endpoint), grpc::InsecureChannelCredentials(),
                                   arguments);
}

std::string ToJson(const NodeInfo& node) {
  std::string json;
  (void)google::protobuf::util::MessageToJsonString(ToProto(node), &json);
  return json;
}

// Nothing if it is none.
std::optional<NodeInfo> FromJson(const std::string& json) {
  v1::Node node;
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;  // of a newer version
  if (!google::protobuf::util::JsonStringToMessage(json, &node, options).ok()) return std::nullopt;
  if (node.id().empty() || node.address().empty()) return std::nullopt;
  return NodeInfo{.id = node.id(), .name = node.name(), .address = node.address()};
}

}  // namespace

// Calls that block.
class EtcdSeedStore::Etcd {
 public:
  Etcd(const Options& options, const std::vector<std::string>& endpoints)
      : key_(options.prefix + "/seed"),
        had_key_(options.prefix + "/had_seed"),
        timeout_(options.call_timeout),
        ttl_s_(absl::ToInt64Seconds(options.lasts)) {
    for (const std::string& endpoint : endpoints) members_.push_back({endpoint, Open(endpoint)});
  }

  Answer Look() {
    pb::RangeRequest request;
    request.set_key(key_);
    pb::RangeResponse response;
    const grpc::Status status = Call([&](grpc::ClientContext* context) {
      return pb::KV::NewStub(channel())->Range(context, request, &response);
    });
    return status.ok() ? Read(response) : Failed(status);
  }

  Answer Claim(const NodeInfo& self) {
    if (const grpc::Status status = HaveLease(); !status.ok()) return Failed(status);
    pb::TxnResponse response;
    const pb::TxnRequest request = Claiming(self);
    const grpc::Status status = Call([&](grpc::ClientContext* context) {
      return pb::KV::NewStub(channel())->Txn(context, request, &response);
    });
    if (!status.ok()) return Failed(status);
    // Of both branches the last one says what there is then.
    Answer answer = Read(response.responses().rbegin()->response_range());
    answer.first = response.succeeded() && response.responses(0).response_range().kvs().empty();
    return answer;
  }

  Answer Renew() {
    if (const grpc::Status status = KeepAlive(); !status.ok()) return Failed(status);
    return Look();
  }

  void Resign() {
    const int64_t lease = std::exchange(lease_, 0);
    if (lease == 0) return;
    pb::LeaseRevokeRequest request;
    request.set_id(lease);
    pb::LeaseRevokeResponse response;
    (void)Call([&](grpc::ClientContext* context) {
      return pb::Lease::NewStub(channel())->LeaseRevoke(context, request, &response);
    });
  }

 private:
  struct Member {
    std::string endpoint;
    std::shared_ptr<grpc::Channel> channel;
  };

  std::shared_ptr<grpc::Channel> channel() const { return members_[member_].channel; }

  template <typename Body>
  grpc::Status Call(const Body& body) {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    context.set_deadline(gpr_time_from_millis(absl::ToInt64Milliseconds(timeout_), GPR_TIMESPAN));
    return body(&context);
  }

  // The next one is asked instead.
  Answer Failed(const grpc::Status& status) {
    const std::string& endpoint = members_[member_].endpoint;
    Answer answer;
    answer.error = status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED
                       ? absl::StrCat("etcd at ", endpoint, " gives no answer")
                       : absl::StrCat("etcd at ", endpoint, ": ", status.error_message());
    member_ = (member_ + 1) % members_.size();
    return answer;
  }

  Answer Read(const pb::RangeResponse& response) const {
    Answer answer;
    if (response.kvs().empty()) return answer;
    const pb::KeyValue& found = response.kvs(0);
    answer.seed = FromJson(found.value());
    if (!answer.seed.has_value()) {
      answer.error = absl::StrCat("etcd has something at ", key_, " that is no daemon: remove it");
    }
    answer.term = found.create_revision();
    answer.ours = lease_ != 0 && found.lease() == lease_;
    return answer;
  }

  // If nobody has it: has there been one, take it, and who has it then? Else: who?
  pb::TxnRequest Claiming(const NodeInfo& self) const {
    pb::TxnRequest request;
    pb::Compare* const nobody = request.add_compare();
    nobody->set_target(pb::Compare::CREATE);
    nobody->set_key(key_);
    nobody->set_create_revision(0);
    request.add_success()->mutable_request_range()->set_key(had_key_);
    const auto put = [&](const std::string& key, const std::string& value, int64_t lease) {
      pb::PutRequest* const made = request.add_success()->mutable_request_put();
      made->set_key(key);
      made->set_value(value);
      made->set_lease(lease);
    };
    put(key_, ToJson(self), lease_);
    put(had_key_, "", 0);
    request.add_success()->mutable_request_range()->set_key(key_);
    request.add_failure()->mutable_request_range()->set_key(key_);
    return request;
  }

  // One that lives as long as it can, so that what a claim takes counts from its beginning.
  grpc::Status HaveLease() {
    if (lease_ != 0) {
      if (const grpc::Status status = KeepAlive(); !status.ok() || lease_ != 0) return status;
    }
    pb::LeaseGrantRequest request;
    request.set_ttl(ttl_s_);
    pb::LeaseGrantResponse response;
    const grpc::Status status = Call([&](grpc::ClientContext* context) {
      return pb::Lease::NewStub(channel())->LeaseGrant(context, request, &response);
    });
    if (!status.ok()) return status;
    if (!response.error().empty()) {
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, response.error());
    }
    lease_ = response.id();
    return status;
  }

  // Afterwards there is no lease if it had ended.
  grpc::Status KeepAlive() {
    pb::LeaseKeepAliveRequest request;
    request.set_id(lease_);
    pb::LeaseKeepAliveResponse response;
    const grpc::Status status = Call([&](grpc::ClientContext* context) {
      const auto stream = pb::Lease::NewStub(channel())->LeaseKeepAlive(context);
      const bool answered = stream->Write(request) && stream->Read(&response);
      if (!answered) return stream->Finish();
      context->TryCancel();
      (void)stream->Finish();
      return grpc::Status();
    });
    if (status.ok() && response.ttl() <= 0) lease_ = 0;
    return status;
  }

  const std::string key_;
  const std::string had_key_;
  const absl::Duration timeout_;
  const int64_t ttl_s_;
  std::vector<Member> members_;
  size_t member_ = 0;
  int64_t lease_ = 0;
};

absl::StatusOr<std::unique_ptr<EtcdSeedStore>> EtcdSeedStore::Create(Options options) {
  std::vector<std::string> endpoints = absl::StrSplit(options.endpoints, ',');
  for (const std::string& endpoint : endpoints) {
    if (const auto parsed = ParseHostPort(endpoint); !parsed.ok()) return parsed.status();
  }
  return std::unique_ptr<EtcdSeedStore>(
      new EtcdSeedStore(std::move(options), std::move(endpoints)));
}

EtcdSeedStore::EtcdSeedStore(Options options, std::vector<std::string> endpoints)
    : options_(std::move(options)),
      name_(absl::StrCat("etcd ", options_.endpoints)),
      etcd_(std::make_unique<Etcd>(options_, endpoints)),
      thread_("etcd", 1) {}

EtcdSeedStore::~EtcdSeedStore() = default;

void EtcdSeedStore::Ask(std::function<Answer(Etcd*)> question, Done done) {
  thread_.Post([this, question = std::move(question), done = std::move(done)]() mutable {
    {
      MutexLock lock(&mutex_);
      if (stopped_) return;
    }
    options_.loop->Post([this, answer = question(etcd_.get()), done = std::move(done)] {
      {
        MutexLock lock(&mutex_);
        if (stopped_) return;
      }
      done(answer);
    });
  });
}

void EtcdSeedStore::Look(Done done) {
  Ask([](Etcd* etcd) { return etcd->Look(); }, std::move(done));
}

void EtcdSeedStore::Claim(const NodeInfo& self, Done done) {
  Ask([self](Etcd* etcd) { return etcd->Claim(self); }, std::move(done));
}

void EtcdSeedStore::Renew(Done done) {
  Ask([](Etcd* etcd) { return etcd->Renew(); }, std::move(done));
}

void EtcdSeedStore::Resign() {
  thread_.Post([this] { etcd_->Resign(); });
}

void EtcdSeedStore::Stop() {
  MutexLock lock(&mutex_);
  stopped_ = true;
}

}  // namespace tutti
