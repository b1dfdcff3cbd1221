// Values that are parts of another one's memory, or its elements in another order: kernels that take strides
// read them where they are.
#pragma once

#include "orion/graph.h"

#include <optional>
#include <vector>

namespace orion::cpu {

/// Where elements of a value are, counted in elements: the first one, and the steps along each axis.
struct Strided {
  std::int64_t offset = 0;
  std::vector<std::int64_t> steps;
};

Strided dense_strides(const Shape& shape);

/// Where the elements of a node are if those of its first operand, of that shape, are at `from`; nothing if
/// the node is no slice, transpose or reshape, or if a reshape joins axes.
std::optional<Strided> moved(const Node& node, const Shape& operand, const Strided& from);

}  // namespace orion::cpu
