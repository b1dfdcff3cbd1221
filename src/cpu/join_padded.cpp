// add(pad(a), pad(b)), where the zeros of each are where the other is, becomes pad(concat(a, b)): what comes
// back through slices of one value, as queries, keys and values often are. Not a pass for every device:
// engines that refuse concat are given it as such a sum.
#include "cpu/planner.h"
#include "ir/rewrite.h"
#include "ops/slice.h"
#include "orion/ops.h"

#include <optional>

namespace orion::cpu {
namespace {

/// x with zeros around it, along one axis only.
struct Padded {
  Value x;
  int axis = 0;
  std::int64_t before = 0, after = 0;

  std::int64_t end() const { return before + x.shape()[axis]; }
};

std::optional<Padded> padded(Value value) {
  const Node& node = value.node();
  if (!node.is("pad") || node.number("constant_val") != 0.0) return std::nullopt;
  const Value x = value.graph->value(node.inputs[0]);
  const Slice place = place_in_pad(node, x.shape());
  std::optional<Padded> result;
  for (int axis = 0; axis < x.shape().rank(); ++axis) {
    const AxisSlice& range = place[static_cast<std::size_t>(axis)];
    if (range.count == value.shape()[axis]) continue;
    if (result) return std::nullopt;
    result = {x, axis, range.begin, value.shape()[axis] - range.begin - range.count};
  }
  return result;
}

void append_parts(std::vector<Value>& parts, const Padded& padded) {
  const Node& node = padded.x.node();
  if (!node.is("concat") || node.integer("axis") != padded.axis || node.flag("interleave"))
    return parts.push_back(padded.x);
  for (const NodeId input : node.inputs) parts.push_back(padded.x.graph->value(input));
}

Value joined(const Padded& first, const Padded& second) {
  std::vector<Value> parts;
  append_parts(parts, first);
  append_parts(parts, second);
  const Value all = ops::concat(parts, first.axis);
  if (first.before == 0 && second.after == 0) return all;
  std::vector<std::int64_t> zeros(2 * static_cast<std::size_t>(all.shape().rank()), 0);
  zeros[2 * static_cast<std::size_t>(first.axis)] = first.before;
  zeros[2 * static_cast<std::size_t>(first.axis) + 1] = second.after;
  return ops::pad(all, zeros);
}

}  // namespace

Graph join_padded(const Graph& graph) {
  return rewrite(graph, [](const RewriteCall& call) -> Value {
    if (!call.node.is("add") || call.in[0].shape() != call.in[1].shape()) return {};
    const std::optional<Padded> a = padded(call.in[0]), b = padded(call.in[1]);
    if (!a || !b || a->axis != b->axis) return {};
    if (a->end() == b->before) return joined(*a, *b);
    if (b->end() == a->before) return joined(*b, *a);
    return {};
  });
}

}  // namespace orion::cpu
