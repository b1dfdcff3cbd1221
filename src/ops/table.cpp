// The list of all ops, and what follows from it alone.
#include "ops/families.h"
#include "orion/error.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

namespace orion {
namespace {

std::vector<const OpDef*> collect() {
  std::vector<const OpDef*> ops;
  for (const auto family :
       {source_ops, elementwise_ops, reduction_ops, linear_ops, shape_ops, indexing_ops, composite_ops})
    for (const OpDef& def : family()) ops.push_back(&def);
  return ops;
}

// Edit distance, for "did you mean".
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({changed, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
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
  const OpDef* nearest =
      *std::ranges::min_element(all_ops(), {}, [&](const OpDef* def) { return distance(shown, def->name); });
  fail("unknown op '", shown, "' (nearest: ", nearest->name, ")");
}

std::optional<std::size_t> OpDef::attr_index(std::string_view attr) const {
  const auto found = std::ranges::find(attrs, attr, &AttrDef::name);
  return found == attrs.end() ? std::nullopt : std::optional(static_cast<std::size_t>(found - attrs.begin()));
}

}  // namespace orion
