// Either a value or a Failure: what calls return whose errors travel to a client.
//
// Within the process, absl::StatusOr is enough; a Failure also says who caused it.
#pragma once

#include <utility>
#include <variant>

#include "base/failure.h"

namespace tutti {

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: as StatusOr
  Result(Failure failure) : state_(std::in_place_index<1>, std::move(failure)) {}  // NOLINT: same

  bool ok() const { return state_.index() == 0; }

  // REQUIRES: ok()
  T& operator*() { return std::get<0>(state_); }
  const T& operator*() const { return std::get<0>(state_); }
  T* operator->() { return &std::get<0>(state_); }
  const T* operator->() const { return &std::get<0>(state_); }

  // REQUIRES: !ok()
  const Failure& failure() const { return std::get<1>(state_); }

 private:
  std::variant<T, Failure> state_;
};

}  // namespace tutti
