#include "base/near.h"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace orion {
namespace {

// Row i of the table of distances between the first i letters of `a` and the first j of `b`.
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

std::string_view nearest(std::string_view wanted, std::span<const std::string_view> known) {
  constexpr std::size_t longest_compared = 64;
  const std::string_view shown = wanted.substr(0, longest_compared);
  return *std::ranges::min_element(known, {}, [&](std::string_view name) { return distance(shown, name); });
}

}  // namespace orion
