#include "daemon/config/settings.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>
#include <numeric>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace tutti {
namespace {

struct Suffix {
  const char* text;
  uint64_t factor;
};

// The largest first.
constexpr std::array kSizes = {Suffix{"GiB", 1 << 30}, Suffix{"MiB", 1 << 20},
                               Suffix{"KiB", 1 << 10}};
constexpr std::array kTimes = {Suffix{"h", 3600 * 1000}, Suffix{"m", 60 * 1000}, Suffix{"s", 1000},
                               Suffix{"ms", 1}};
constexpr std::array kShortTimes = {Suffix{"s", 1'000'000}, Suffix{"ms", 1000}, Suffix{"us", 1}};

std::vector<Suffix> SuffixesOf(v1::Unit unit) {
  if (unit == v1::UNIT_BYTES) return {kSizes.begin(), kSizes.end()};
  if (unit == v1::UNIT_MILLISECONDS) return {kTimes.begin(), kTimes.end()};
  if (unit == v1::UNIT_MICROSECONDS) return {kShortTimes.begin(), kShortTimes.end()};
  return {};
}

std::string ShowNumber(uint64_t number, v1::Unit unit) {
  if (number == 0) return "0";
  for (const Suffix& suffix : SuffixesOf(unit)) {
    if (number % suffix.factor == 0) return absl::StrCat(number / suffix.factor, suffix.text);
  }
  return absl::StrCat(number, unit == v1::UNIT_BYTES ? " bytes" : "");
}

// What people are told to write.
std::string Example(v1::Unit unit) {
  if (unit == v1::UNIT_BYTES) return "a size such as 64KiB, 512MiB or 16GiB";
  if (unit == v1::UNIT_MILLISECONDS) return "a time such as 250ms, 30s, 5m or 24h";
  if (unit == v1::UNIT_MICROSECONDS) return "a time such as 20us or 1ms";
  return "a number such as 16";
}

absl::StatusOr<uint64_t> ParseNumber(const std::string& text, v1::Unit unit) {
  const auto digits_end =
      std::find_if_not(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c); });
  const std::string digits(text.begin(), digits_end);
  const std::string rest(digits_end, text.end());
  uint64_t number = 0;
  if (digits.empty() || !absl::SimpleAtoi(digits, &number)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "' is not what it takes: ", Example(unit)));
  }
  const std::vector<Suffix> suffixes = SuffixesOf(unit);
  if (rest.empty() && (suffixes.empty() || number == 0)) return number;
  if (rest.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "' lacks its unit: write ", Example(unit)));
  }
  for (const Suffix& suffix : suffixes) {
    if (rest != suffix.text) continue;
    if (number > std::numeric_limits<uint64_t>::max() / suffix.factor) {
      return absl::InvalidArgumentError(absl::StrCat("'", text, "' is too large"));
    }
    return number * suffix.factor;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("'", text, "' is not what it takes: ", Example(unit)));
}

// How many letters to add, drop or change.
size_t Distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t changed = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::vector<const SettingField*> SettingFields() {
  const google::protobuf::Descriptor* const message = v1::DaemonConfig::descriptor();
  std::vector<const SettingField*> fields;
  for (int i = 0; i < message->field_count(); ++i) fields.push_back(message->field(i));
  return fields;
}

const SettingField* FindSetting(const std::string& name) {
  return v1::DaemonConfig::descriptor()->FindFieldByName(name);
}

const SettingField* NearestSetting(const std::string& name) {
  // Two slips of the finger: below the distance between any two of our names.
  size_t nearest = 3;
  const SettingField* found = nullptr;
  for (const SettingField* field : SettingFields()) {
    const size_t distance = Distance(name, field->name());
    if (distance >= nearest) continue;
    nearest = distance;
    found = field;
  }
  return found;
}

const v1::Setting& AnnotationOf(const SettingField& field) {
  return field.options().GetExtension(v1::setting);
}

absl::Status SetFromText(const SettingField& field, const std::string& text,
                         v1::DaemonConfig* config) {
  const google::protobuf::Reflection& reflection = *config->GetReflection();
  if (field.cpp_type() == SettingField::CPPTYPE_STRING) {
    reflection.SetString(config, &field, text);
    return absl::OkStatus();
  }
  if (field.cpp_type() == SettingField::CPPTYPE_BOOL) {
    if (text != "true" && text != "false") {
      return absl::InvalidArgumentError(
          absl::StrCat("'", text, "' is not what it takes: true or false"));
    }
    reflection.SetBool(config, &field, text == "true");
    return absl::OkStatus();
  }
  TUTTI_CHECK(field.cpp_type() == SettingField::CPPTYPE_UINT64);
  const absl::StatusOr<uint64_t> number = ParseNumber(text, AnnotationOf(field).unit());
  if (!number.ok()) return number.status();
  reflection.SetUInt64(config, &field, *number);
  return absl::OkStatus();
}

absl::Status CheckBounds(const SettingField& field, const v1::DaemonConfig& config) {
  if (field.cpp_type() != SettingField::CPPTYPE_UINT64) return absl::OkStatus();
  const v1::Setting& setting = AnnotationOf(field);
  const uint64_t value = config.GetReflection()->GetUInt64(config, &field);
  if (value >= setting.min() && (setting.max() == 0 || value <= setting.max())) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(ShowNumber(value, setting.unit()), " is out of bounds: ", ShowKind(field)));
}

std::string ShowValue(const SettingField& field, const v1::DaemonConfig& config) {
  const google::protobuf::Reflection& reflection = *config.GetReflection();
  if (field.cpp_type() == SettingField::CPPTYPE_STRING) return reflection.GetString(config, &field);
  if (field.cpp_type() == SettingField::CPPTYPE_BOOL) {
    return reflection.GetBool(config, &field) ? "true" : "false";
  }
  return ShowNumber(reflection.GetUInt64(config, &field), AnnotationOf(field).unit());
}

std::string ShowKind(const SettingField& field) {
  if (field.cpp_type() == SettingField::CPPTYPE_STRING) return "text";
  if (field.cpp_type() == SettingField::CPPTYPE_BOOL) return "true or false";
  const v1::Setting& setting = AnnotationOf(field);
  const char* const kind = setting.unit() == v1::UNIT_BYTES   ? "size"
                           : setting.unit() == v1::UNIT_COUNT ? "number"
                                                              : "time";
  const std::string min = ShowNumber(setting.min(), setting.unit());
  if (setting.max() == 0) return absl::StrCat(kind, ", ", min, " or more");
  return absl::StrCat(kind, ", ", min, " to ", ShowNumber(setting.max(), setting.unit()));
}

}  // namespace tutti
