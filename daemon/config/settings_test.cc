#include "daemon/config/settings.h"

#include <catch2/catch.hpp>
#include <string>

namespace tutti {
namespace {

// What `text` makes of a setting; the problem if it makes nothing.
std::string Read(const std::string& name, const std::string& text) {
  const SettingField* const field = FindSetting(name);
  REQUIRE(field != nullptr);
  v1::DaemonConfig config;
  const absl::Status status = SetFromText(*field, text, &config);
  if (!status.ok()) return std::string(status.message());
  std::string raw = config.ShortDebugString();
  if (!raw.empty() && raw.back() == ' ') raw.pop_back();
  return raw;
}

TEST_CASE("every setting has a default that can be read and lies within its bounds, and a reason") {
  for (const SettingField* field : SettingFields()) {
    INFO(field->name());
    const v1::Setting& setting = AnnotationOf(*field);
    v1::DaemonConfig config;
    CHECK(SetFromText(*field, setting.default_(), &config).ok());
    CHECK(CheckBounds(*field, config).ok());
    CHECK_FALSE(setting.reason().empty());
    CHECK((field->cpp_type() == SettingField::CPPTYPE_UINT64) ==
          (setting.unit() != v1::UNIT_UNSPECIFIED));
    // Its name says its unit.
    const auto ends_with = [&](const std::string& end) {
      return field->name().size() > end.size() &&
             field->name().substr(field->name().size() - end.size()) == end;
    };
    CHECK(ends_with("_ms") == (setting.unit() == v1::UNIT_MILLISECONDS));
    CHECK(ends_with("_us") == (setting.unit() == v1::UNIT_MICROSECONDS));
    // No two names are so alike that a slip of the finger could mean either.
    for (const SettingField* other : SettingFields()) {
      if (other != field) CHECK(NearestSetting(other->name()) == other);
    }
  }
}

TEST_CASE("times take ms, s, m, h; sizes take KiB, MiB, GiB; counts take numbers") {
  CHECK(Read("work_timeout_ms", "250ms") == "work_timeout_ms: 250");
  CHECK(Read("ring_spin_us", "20us") == "ring_spin_us: 20");
  CHECK(Read("ring_spin_us", "1ms") == "ring_spin_us: 1000");
  CHECK(Read("work_timeout_ms", "30s") == "work_timeout_ms: 30000");
  CHECK(Read("work_timeout_ms", "5m") == "work_timeout_ms: 300000");
  CHECK(Read("work_timeout_ms", "2h") == "work_timeout_ms: 7200000");
  CHECK(Read("arena_bytes_max", "3KiB") == "arena_bytes_max: 3072");
  CHECK(Read("arena_bytes_max", "64MiB") == "arena_bytes_max: 67108864");
  CHECK(Read("arena_bytes_max", "16GiB") == "arena_bytes_max: 17179869184");
  CHECK(Read("sessions_max", "12") == "sessions_max: 12");
  CHECK(Read("drain_timeout_ms", "0").empty());  // zero, and so not printed
  CHECK(Read("arena_bytes_max", "0").empty());
  CHECK(Read("log_level", "debug") == "log_level: \"debug\"");
}

TEST_CASE("what is on or off takes true and false") {
  CHECK(Read("insecure_peers", "true") == "insecure_peers: true");
  CHECK(Read("insecure_peers", "false").empty());  // as it is by default
  for (const char* text : {"", "1", "yes", "True", "true "}) {
    CHECK(Read("insecure_peers", text).find("is not what it takes: true or false") !=
          std::string::npos);
  }
  CHECK(ShowKind(*FindSetting("insecure_peers")) == "true or false");
  CHECK(ShowValue(*FindSetting("insecure_peers"), v1::DaemonConfig()) == "false");
}

TEST_CASE("a number without the unit it needs is refused, with an example") {
  CHECK(Read("work_timeout_ms", "300") ==
        "'300' lacks its unit: write a time such as 250ms, 30s, 5m or 24h");
  CHECK(Read("arena_bytes_max", "1024") ==
        "'1024' lacks its unit: write a size such as 64KiB, 512MiB or 16GiB");
}

TEST_CASE("what is no value is refused") {
  for (const char* text : {"", "x", "-1s", "1.5s", "5 s", "5S", "1KiB", "s", "1d", "++1s"}) {
    INFO(text);
    CHECK(Read("work_timeout_ms", text).find("is not what it takes: a time") != std::string::npos);
  }
  for (const char* text : {"", "12x", "-1", "1s", "1e3", "0x10"}) {
    INFO(text);
    CHECK(Read("sessions_max", text).find("is not what it takes: a number") != std::string::npos);
  }
  CHECK(Read("arena_bytes_max", "1GB").find("is not what it takes: a size") != std::string::npos);
  CHECK(Read("arena_bytes_max", "18446744073709551615GiB").find("too large") != std::string::npos);
  CHECK(Read("arena_bytes_max", "99999999999999999999GiB").find("is not") != std::string::npos);
}

TEST_CASE("bounds are said as people write them") {
  const SettingField& field = *FindSetting("work_timeout_ms");
  v1::DaemonConfig config;
  config.set_work_timeout_ms(86'400'001);
  CHECK(CheckBounds(field, config).message() == "86400001ms is out of bounds: time, 1ms to 24h");
  config.set_work_timeout_ms(86'400'000);
  CHECK(CheckBounds(field, config).ok());
  config.set_work_timeout_ms(0);
  CHECK_FALSE(CheckBounds(field, config).ok());
  CHECK(ShowKind(*FindSetting("arena_bytes_max")) == "size, 0 or more");
  CHECK(ShowKind(*FindSetting("socket_dir")) == "text");
}

TEST_CASE("values are shown as people write them") {
  v1::DaemonConfig config;
  config.set_work_timeout_ms(90'000);
  config.set_inline_bytes_max(128 << 10);
  config.set_arena_bytes_max(1000);
  config.set_sessions_max(4096);
  CHECK(ShowValue(*FindSetting("work_timeout_ms"), config) == "90s");
  CHECK(ShowValue(*FindSetting("inline_bytes_max"), config) == "128KiB");
  CHECK(ShowValue(*FindSetting("arena_bytes_max"), config) == "1000 bytes");
  CHECK(ShowValue(*FindSetting("sessions_max"), config) == "4096");
  CHECK(ShowValue(*FindSetting("drain_timeout_ms"), config) == "0");
}

TEST_CASE("names that are nearly right are recognised, others are not") {
  CHECK(NearestSetting("sesions_max") == FindSetting("sessions_max"));
  CHECK(NearestSetting("socketdir") == FindSetting("socket_dir"));
  // Variables of clients.
  for (const char* name : {"lane", "namespace", "venv", "home", "log"}) {
    INFO(name);
    CHECK(NearestSetting(name) == nullptr);
  }
}

}  // namespace
}  // namespace tutti
