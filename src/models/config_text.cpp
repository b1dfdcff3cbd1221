// config.json as text.
#include "base/json.h"
#include "orion/error.h"
#include "orion/model.h"

namespace orion {
namespace {

void flatten(const Json& json, const std::string& key, ConfigMap& map) {
  const std::string prefix = key.empty() ? "" : key + '.';
  if (const auto* members = std::get_if<JsonObject>(&json.value)) {
    for (const JsonMember& member : *members) flatten(member.value, prefix + member.name, map);
  } else if (const auto* items = std::get_if<JsonList>(&json.value)) {
    for (std::size_t i = 0; i < items->size(); ++i) flatten((*items)[i], str(prefix, i), map);
  } else {
    const auto scalar = [](const auto& value) -> ConfigValue {
      if constexpr (std::is_constructible_v<ConfigValue, decltype(value)>) return value;
      return {};
    };
    map.insert_or_assign(key, std::visit(scalar, json.value));
  }
}

}  // namespace

ConfigMap read_config(std::string_view json) {
  const Json parsed = parse_json(json, "config");
  if (!std::holds_alternative<JsonObject>(parsed.value)) fail("config: an object is needed");
  ConfigMap map;
  flatten(parsed, "", map);
  return map;
}

}  // namespace orion
