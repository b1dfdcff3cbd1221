// The table of limits, one file per family.
#pragma once

#include "orion/ane.h"

namespace orion::ane {

std::span<const Limit> operator_limits();
std::span<const Limit> layout_limits();
std::span<const Limit> resource_limits();
std::span<const Limit> numeric_limits();
std::span<const Limit> runtime_limits();

}  // namespace orion::ane
