// Reading a config.json key by key, with errors that name the key.
#pragma once

#include "orion/model.h"

#include <limits>

namespace orion {

inline constexpr std::int64_t largest_size = std::numeric_limits<std::int32_t>::max();
// Beyond any model made; a damaged file must not make us build a graph of a billion nodes.
inline constexpr std::int64_t most_layers = 4096;
inline constexpr std::int64_t most_head_dim = 16384;

class ConfigReader {
 public:
  ConfigReader(const ConfigMap& map, std::string_view model_type) : map_(map), model_type_(model_type) {}

  /// Whether the key is there and not null.
  bool has(std::string_view key) const { return find(key) != nullptr; }
  /// A whole number from 1 to `most`.
  std::int64_t size(std::string_view key, std::int64_t most = largest_size) const;
  std::int64_t size_or(std::string_view key, std::int64_t fallback) const;
  /// A finite number above 0.
  double positive(std::string_view key) const;
  double positive_or(std::string_view key, double fallback) const;
  bool flag_or(std::string_view key, bool fallback) const;
  std::string text_or(std::string_view key, std::string_view fallback) const;

  /// Error unless the flag is false or absent.
  void refuse(std::string_view key) const;
  /// Error that a feature is not supported; `known` says what is.
  [[noreturn]] void unsupported(std::string_view key, std::string_view value, std::string_view known) const;

 private:
  const ConfigValue* find(std::string_view key) const;
  const ConfigValue& need(std::string_view key) const;
  [[noreturn]] void wrong(std::string_view key, std::string_view wanted) const;

  const ConfigMap& map_;
  std::string model_type_;
};

}  // namespace orion
