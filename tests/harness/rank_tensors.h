// The tensors of a rank under test, by name, and how commands write them:
//
//   t           all of it
//   t[2:5]      its elements 2, 3 and 4
//   a,b[0:1]    a list
//   t/4         a list: t in four parts of one length
//   -           no tensor; an empty list
//
// Not thread-safe.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "client/cpp/tutti.h"
#include "tests/harness/elements.h"

namespace tutti {

class RankTensors {
 public:
  // Replaces what had that name.
  void Put(const std::string& name, const Tensor& tensor);
  // Plain memory of this process.
  void PutPlain(const std::string& name, DataType dtype, size_t count);

  // No tensor if there is none of that name, or no such part of it.
  TensorRef Find(const std::string& text) const;
  TensorList List(const std::string& text) const;
  // Nothing if Find finds nothing.
  std::optional<Elements> ElementsOf(const std::string& text) const;

 private:
  struct Entry {
    // What `ref` names, if it is plain memory: it must not move.
    std::unique_ptr<std::byte[]> plain;
    TensorRef ref;
  };
  std::map<std::string, Entry> named_;
};

}  // namespace tutti
