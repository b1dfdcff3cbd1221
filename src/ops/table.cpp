// The list of all ops, and what follows from it alone.
#include "base/near.h"
#include "ops/families.h"
#include "orion/error.h"

#include <algorithm>
#include <unordered_map>

namespace orion {
namespace {

std::vector<const OpDef*> collect() {
  std::vector<const OpDef*> ops;
  for (const auto family :
       {source_ops, elementwise_ops, reduction_ops, linear_ops, shape_ops, indexing_ops, composite_ops})
    for (const OpDef& def : family()) ops.push_back(&def);
  return ops;
}

}  // namespace

std::span<const OpDef* const> all_ops() {
  static const std::vector<const OpDef*> ops = collect();
  return ops;
}

const OpDef* find_op(std::string_view name) {
  static const auto by_name = [] {
    std::unordered_map<std::string_view, const OpDef*> map;
    for (const OpDef* def : all_ops()) map.emplace(def->name, def);
    return map;
  }();
  const auto found = by_name.find(name);
  return found == by_name.end() ? nullptr : found->second;
}

const OpDef& op(std::string_view name) {
  if (const OpDef* def = find_op(name)) return *def;
  constexpr std::size_t longest_compared = 64;
  const std::string_view shown = name.substr(0, longest_compared);
  std::vector<std::string_view> names;
  for (const OpDef* def : all_ops()) names.push_back(def->name);
  fail("unknown op '", shown, "' (nearest: ", nearest(shown, names), ")");
}

std::optional<std::size_t> OpDef::attr_index(std::string_view attr) const {
  const auto found = std::ranges::find(attrs, attr, &AttrDef::name);
  return found == attrs.end() ? std::nullopt : std::optional(static_cast<std::size_t>(found - attrs.begin()));
}

}  // namespace orion
