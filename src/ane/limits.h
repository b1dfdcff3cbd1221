// The table of limits, one file per family.
#pragma once

#include "orion/ane.h"

namespace orion::ane {

/// The weights of a program take less ("program-weights-2gb").
inline constexpr std::int64_t weight_bytes_limit = std::int64_t{2} << 30;

std::span<const Limit> operator_limits();
std::span<const Limit> layout_limits();
std::span<const Limit> resource_limits();
std::span<const Limit> numeric_limits();
std::span<const Limit> runtime_limits();

}  // namespace orion::ane
