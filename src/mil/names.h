// Variable names in MIL text.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace orion::mil {

/// Names that are taken.
class Names {
 public:
  bool has(std::string_view name) const { return taken_.contains(std::string(name)); }
  void take(std::string_view name) { taken_.emplace(name); }
  /// `wanted`, or `wanted_0`, `wanted_1` ... if that is taken; taken from now on.
  std::string unique(std::string_view wanted);
  /// The same for inner variables: never a name that is avoided.
  std::string unique_inner(std::string_view wanted);

 private:
  std::unordered_set<std::string> taken_;
  std::unordered_map<std::string, int> next_;
};

/// Words of MIL's own grammar: no variable may be called so.
bool is_mil_word(std::string_view name);

/// Names that are better not given to inner variables: MIL's words, keywords of C and Python, names of
/// ops, and the few with which programs were seen to give wrong results on M1.
bool is_avoided(std::string_view name);

/// A weight's name as an identifier: `model.layers.0.mlp` -> `model_layers_0_mlp`.
std::string identifier_from(std::string_view weight_name);

}  // namespace orion::mil
