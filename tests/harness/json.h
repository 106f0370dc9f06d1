// One JSON object, written field by field: what the test tools answer with.
//
// Not thread-safe; a value.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tutti {

class JsonObject {
 public:
  JsonObject& Add(const std::string& name, bool value) {
    return Raw(name, value ? "true" : "false");
  }
  JsonObject& Add(const std::string& name, uint64_t value) {
    return Raw(name, absl::StrCat(value));
  }
  JsonObject& Add(const std::string& name, int64_t value) { return Raw(name, absl::StrCat(value)); }
  JsonObject& Add(const std::string& name, const std::string& value);
  // Else it would be a bool.
  JsonObject& Add(const std::string& name, const char* value) {
    return Add(name, std::string(value));
  }
  JsonObject& Add(const std::string& name, const std::vector<uint32_t>& values) {
    return Raw(name, absl::StrCat("[", absl::StrJoin(values, ","), "]"));
  }
  // What JSON has no number for becomes null.
  JsonObject& Add(const std::string& name, const std::vector<double>& values);

  // "{...}", in one line.
  std::string ToString() const { return absl::StrCat("{", absl::StrJoin(fields_, ","), "}"); }

 private:
  JsonObject& Raw(const std::string& name, const std::string& value);

  std::vector<std::string> fields_;
};

}  // namespace tutti
