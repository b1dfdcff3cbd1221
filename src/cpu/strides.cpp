#include "cpu/strides.h"

#include "ops/slice.h"

namespace orion::cpu {
namespace {

std::size_t index(std::int64_t axis) {
  return static_cast<std::size_t>(axis);
}

Strided transposed(const Node& node, const Strided& from) {
  Strided to{.offset = from.offset, .steps = {}};
  for (const std::int64_t axis : node.list("perm")) to.steps.push_back(from.steps[index(axis)]);
  return to;
}

Strided sliced(const Node& node, const Shape& operand, const Strided& from) {
  Strided to{.offset = from.offset, .steps = {}};
  const Slice slice = resolve_slice(node, operand, node.list("begin"), node.list("end"));
  for (std::size_t axis = 0; axis < slice.size(); ++axis) {
    to.offset += slice[axis].begin * from.steps[axis];
    if (!slice[axis].squeezed) to.steps.push_back(slice[axis].stride * from.steps[axis]);
  }
  return to;
}

// Each axis of the operand becomes some neighbouring ones.
std::optional<Strided> split(const Shape& result, const Shape& operand, const Strided& from) {
  Strided to{.offset = from.offset, .steps = std::vector<std::int64_t>(index(result.rank()))};
  int axis = 0;
  for (int source = 0; source < operand.rank(); ++source) {
    if (operand[source] == 1) continue;
    const int first = axis;
    std::int64_t size = 1;
    while (size < operand[source] && axis < result.rank()) size *= result[axis++];
    if (size != operand[source]) return std::nullopt;
    std::int64_t step = from.steps[index(source)];
    for (int i = axis - 1; i >= first; step *= result[i--]) to.steps[index(i)] = step;
  }
  return to;
}

}  // namespace

Strided dense_strides(const Shape& shape) {
  Strided dense;
  for (int axis = 0; axis < shape.rank(); ++axis) dense.steps.push_back(shape.stride(axis));
  return dense;
}

std::optional<Strided> moved(const Node& node, const Shape& operand, const Strided& from) {
  if (node.is("transpose")) return transposed(node, from);
  if (node.is("slice_by_index")) return sliced(node, operand, from);
  if (node.is("reshape")) return split(node.type.shape, operand, from);
  return std::nullopt;
}

}  // namespace orion::cpu
