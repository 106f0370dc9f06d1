// One setting at a time: the fields of tutti.v1.DaemonConfig, read and shown by their annotation.
//
// Thread-safe: free functions without state. A new setting is a new field; nothing here changes.
#pragma once

#include <google/protobuf/descriptor.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tutti/v1/config.pb.h"

namespace tutti {

using SettingField = google::protobuf::FieldDescriptor;

// All of them, in the order of the file.
std::vector<const SettingField*> SettingFields();

// Null if there is none of that name.
const SettingField* FindSetting(const std::string& name);

// The setting that `name` is probably meant to be; null if it resembles none.
const SettingField* NearestSetting(const std::string& name);

const v1::Setting& AnnotationOf(const SettingField& field);

// Sets it from what people write: "5m", "128KiB", "4096". Fails with kInvalidArgument, saying what
// would be right; numbers without the unit they need are ambiguous and refused (but 0).
absl::Status SetFromText(const SettingField& field, const std::string& text,
                         v1::DaemonConfig* config);

// The value lies within the annotation's bounds.
absl::Status CheckBounds(const SettingField& field, const v1::DaemonConfig& config);

// As people write it.
std::string ShowValue(const SettingField& field, const v1::DaemonConfig& config);
// "time, 1ms to 24h".
std::string ShowKind(const SettingField& field);

}  // namespace tutti
