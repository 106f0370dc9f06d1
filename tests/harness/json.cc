#include "tests/harness/json.h"

#include <cmath>

#include "absl/strings/str_format.h"

namespace tutti {
namespace {

std::string Quoted(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppendFormat(&quoted, "\\u%04x", static_cast<unsigned>(c));
    } else {
      quoted.push_back(c);
    }
  }
  return quoted + "\"";
}

}  // namespace

JsonObject& JsonObject::Add(const std::string& name, const std::string& value) {
  return Raw(name, Quoted(value));
}

JsonObject& JsonObject::Add(const std::string& name, const std::vector<double>& values) {
  const auto format = [](std::string* text, double value) {
    if (std::isfinite(value)) {
      absl::StrAppendFormat(text, "%.17g", value);
    } else {
      text->append("null");
    }
  };
  return Raw(name, absl::StrCat("[", absl::StrJoin(values, ",", format), "]"));
}

JsonObject& JsonObject::Raw(const std::string& name, const std::string& value) {
  fields_.push_back(absl::StrCat(Quoted(name), ":", value));
  return *this;
}

}  // namespace tutti
