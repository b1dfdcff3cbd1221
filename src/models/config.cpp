#include "models/config.h"

#include "orion/error.h"

#include <cmath>
#include <limits>

namespace orion {
namespace {

std::string shown(const ConfigValue& value) {
  struct Show {
    std::string operator()(std::monostate) const { return "null"; }
    std::string operator()(bool b) const { return b ? "true" : "false"; }
    std::string operator()(std::int64_t i) const { return str(i); }
    std::string operator()(double d) const { return str(d); }
    std::string operator()(const std::string& s) const { return str('"', s, '"'); }
  };
  return std::visit(Show{}, value);
}

}  // namespace

const ConfigValue* ConfigReader::find(std::string_view key) const {
  const auto found = map_.find(key);
  if (found == map_.end() || std::holds_alternative<std::monostate>(found->second)) return nullptr;
  return &found->second;
}

const ConfigValue& ConfigReader::need(std::string_view key) const {
  if (const ConfigValue* value = find(key)) return *value;
  fail("config: no '", key, "', which a ", model_type_, " model needs");
}

void ConfigReader::wrong(std::string_view key, std::string_view wanted) const {
  fail("config: ", key, " is ", shown(need(key)), ", ", wanted, " is needed");
}

std::int64_t ConfigReader::size(std::string_view key, std::int64_t most) const {
  const auto* value = std::get_if<std::int64_t>(&need(key));
  if (value == nullptr || *value < 1 || *value > most) wrong(key, str("a whole number from 1 to ", most));
  return *value;
}

std::int64_t ConfigReader::size_or(std::string_view key, std::int64_t fallback) const {
  return has(key) ? size(key) : fallback;
}

double ConfigReader::positive(std::string_view key) const {
  const ConfigValue& value = need(key);
  double number = std::numeric_limits<double>::quiet_NaN();
  if (const auto* real = std::get_if<double>(&value)) number = *real;
  if (const auto* whole = std::get_if<std::int64_t>(&value)) number = static_cast<double>(*whole);
  if (!std::isfinite(number) || number <= 0) wrong(key, "a finite number above 0");
  return number;
}

double ConfigReader::positive_or(std::string_view key, double fallback) const {
  return has(key) ? positive(key) : fallback;
}

bool ConfigReader::flag_or(std::string_view key, bool fallback) const {
  if (!has(key)) return fallback;
  const auto* value = std::get_if<bool>(find(key));
  if (value == nullptr) wrong(key, "true or false");
  return *value;
}

std::string ConfigReader::text_or(std::string_view key, std::string_view fallback) const {
  if (!has(key)) return std::string(fallback);
  const auto* value = std::get_if<std::string>(find(key));
  if (value == nullptr) wrong(key, "a string");
  return *value;
}

void ConfigReader::refuse(std::string_view key) const {
  if (flag_or(key, false)) unsupported(key, "true", "false");
}

void ConfigReader::unsupported(std::string_view key, std::string_view value, std::string_view known) const {
  fail("config: ", key, " '", value, "' is not supported for ", model_type_, " (supported: ", known, ")");
}

}  // namespace orion
