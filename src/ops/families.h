// The op families, one file each. table.cpp lists them.
#pragma once

#include "orion/op.h"

namespace orion {

std::span<const OpDef> source_ops();
std::span<const OpDef> elementwise_ops();
std::span<const OpDef> reduction_ops();
std::span<const OpDef> linear_ops();
std::span<const OpDef> shape_ops();
std::span<const OpDef> indexing_ops();
std::span<const OpDef> composite_ops();

}  // namespace orion
