// "Did you mean".
#pragma once

#include <span>
#include <string_view>

namespace orion {

/// Of `known` (not empty), the one with the smallest edit distance to `wanted`.
std::string_view nearest(std::string_view wanted, std::span<const std::string_view> known);

}  // namespace orion
