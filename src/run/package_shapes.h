// The programs that a package has.
#pragma once

#include "orion/segments.h"

namespace orion {

/// Of one layer: two for each number of columns that prompts are read in, two to decode.
std::vector<SegmentShape> package_shapes(std::int64_t layer, std::span<const std::int64_t> buckets);
/// Of all layers.
std::size_t package_programs(const ModelConfig& config, std::span<const std::int64_t> buckets);

/// The most columns a program may have.
inline constexpr std::int64_t most_columns = 16384;

}  // namespace orion
