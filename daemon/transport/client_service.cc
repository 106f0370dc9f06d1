#include "daemon/transport/client_service.h"

#include <memory>
#include <string>
#include <utility>

#include "daemon/transport/auth.h"
#include "daemon/transport/grpc_order.h"
#include "daemon/transport/request_convert.h"
#include "proto/grpc_status.h"

namespace tutti {
namespace {

// One unary call. Its state is the control loop's; it owns itself until OnDone, and tasks that are
// posted then hold a share.
class Call : public grpc::ServerUnaryReactor, public std::enable_shared_from_this<Call> {
 public:
  // Returns the reactor to hand to gRPC.
  static Call* Start(std::shared_ptr<Call> call) {
    call->self_ = call;
    BeforeReactions(call.get());
    call->services_->loop->Post([call] { call->BeginIfKnown(); });
    return call.get();
  }

  void OnCancel() final {
    const InReaction reaction(this);
    services_->loop->Post([self = shared_from_this()] {
      self->Cancelled();
      self->End(grpc::Status::CANCELLED);
    });
  }
  void OnDone() final {
    const InReaction reaction(this);
    const std::shared_ptr<Call> self = std::move(self_);
  }

 protected:
  Call(const CallServices* services, grpc::CallbackServerContext* context)
      : services_(services), context_(context), token_(TokenOf(*context)) {}

  // The session is known: do it, and call End or Fail some time.
  virtual void Begin(SessionId session) = 0;
  // Nobody waits for the answer any more, or it did not arrive.
  virtual void Cancelled() = 0;

  // Only the first counts: gRPC wants one. After it, context and response are gone.
  void End(const grpc::Status& status) {
    if (std::exchange(ended_, true)) return;
    BeforeReactions(this);
    Finish(status);
  }
  void Fail(const Failure& failure) {
    if (!ended_) End(FinishWith(failure, context_));
  }
  bool ended() const { return ended_; }

  const CallServices* const services_;

 private:
  void BeginIfKnown() {
    const std::optional<SessionId> session = services_->tokens->Find(token_);
    if (!session.has_value()) return End(Unauthenticated(context_));
    Begin(*session);
  }

  grpc::CallbackServerContext* const context_;
  const std::string token_;
  std::shared_ptr<Call> self_;
  bool ended_ = false;
};

class JoinCall final : public Call {
 public:
  JoinCall(const CallServices* services, grpc::CallbackServerContext* context,
           const v1::JoinGroupRequest& request, v1::JoinGroupResponse* response)
      : Call(services, context), request_(FromProto(request)), response_(response) {}

 private:
  void Begin(SessionId session) override {
    session_ = session;
    join_ = services_->core->Join(session, request_,
                                  [self = shared_from_this(), this](const Result<Joined>& joined) {
                                    if (!joined.ok()) return Fail(joined.failure());
                                    Succeed(*joined);
                                  });
  }

  void Succeed(const Joined& joined) {
    membership_ = joined.membership;
    if (ended()) return GiveBack();  // cancelled when the group was just ready
    response_->set_membership(joined.membership);
    response_->set_epoch(joined.epoch);
    response_->set_epoch_id(joined.epoch_id);
    response_->set_work_timeout_ms(
        static_cast<uint64_t>(absl::ToInt64Milliseconds(joined.work_timeout)));
    End(grpc::Status::OK);
  }

  void Cancelled() override {
    if (membership_ != 0) return GiveBack();
    if (!ended()) services_->core->CancelJoin(join_);
  }

  // The group is ready, but the answer did not arrive: the client does not know that it holds a
  // seat, and the others would wait for it.
  void GiveBack() {
    services_->core->Leave(session_, membership_, 0, [](const std::optional<Failure>&) {});
  }

  const JoinRequest request_;
  v1::JoinGroupResponse* const response_;
  SessionId session_ = 0;
  JoinId join_ = 0;
  MembershipId membership_ = 0;
};

class LeaveCall final : public Call {
 public:
  LeaveCall(const CallServices* services, grpc::CallbackServerContext* context,
            const v1::LeaveGroupRequest& request)
      : Call(services, context),
        membership_(request.membership()),
        after_work_(request.after_work()),
        join_number_(request.join_id()) {}

 private:
  void Begin(SessionId session) override {
    const auto done = [self = shared_from_this(), this](const std::optional<Failure>& failure) {
      if (failure.has_value()) return Fail(*failure);
      End(grpc::Status::OK);
    };
    if (join_number_ != 0) return services_->core->CallOff(session, join_number_, done);
    services_->core->Leave(session, membership_, after_work_, done);
  }
  // It leaves all the same: that is what the client wanted.
  void Cancelled() override {}

  const MembershipId membership_;
  const WorkNumber after_work_;
  const uint64_t join_number_;
};

}  // namespace

grpc::ServerUnaryReactor* ClientService::JoinGroup(grpc::CallbackServerContext* context,
                                                   const v1::JoinGroupRequest* request,
                                                   v1::JoinGroupResponse* response) {
  return Call::Start(std::make_shared<JoinCall>(&services_, context, *request, response));
}

grpc::ServerUnaryReactor* ClientService::LeaveGroup(grpc::CallbackServerContext* context,
                                                    const v1::LeaveGroupRequest* request,
                                                    v1::LeaveGroupResponse* /*response*/) {
  return Call::Start(std::make_shared<LeaveCall>(&services_, context, *request));
}

grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachResponse>* ClientService::Attach(
    grpc::CallbackServerContext* context) {
  return StreamLane::Start(&services_, context);
}

}  // namespace tutti
