// Broadcasts that their users do themselves.
#include "ane/legalize_passes.h"
#include "ir/rewrite.h"
#include "orion/op.h"

#include <algorithm>

namespace orion::ane {
namespace {

// The shape that trailing axes stretch to, sizes of 1 giving way; the op's own rule has checked that they
// can.
Shape stretched(const std::vector<Value>& values) {
  int rank = 0;
  for (const Value& value : values) rank = std::max(rank, value.shape().rank());
  Shape shape = Shape::ones(rank);
  for (const Value& value : values)
    for (int i = 1; i <= value.shape().rank(); ++i)
      shape.set(rank - i, std::max(shape[rank - i], value.shape()[value.shape().rank() - i]));
  return shape;
}

}  // namespace

//   %1 (8, 64) = broadcast_to(x=%0, shape=[8, 64])      %0 is (8, 1)
//   %3 (8, 64) = mul(x=%2, y=%1)
// becomes
//   %3 (8, 64) = mul(x=%2, y=%0)
//
// What is left of broadcast_to costs a constant of its whole shape.
Graph drop_broadcasts(const Graph& graph) {
  return rewrite(graph, [](const RewriteCall& call) -> Value {
    if (!call.node.op->elementwise || call.in.size() < 2) return {};
    std::vector<Value> in = call.in;
    bool changed = false;
    for (Value& value : in) {
      if (!value || !value.node().is("broadcast_to")) continue;
      const Value before = value;
      value = {&call.graph, value.node().inputs[0]};
      const bool is_enough = stretched(in) == call.node.type.shape;
      if (!is_enough) value = before;
      changed = changed || is_enough;
    }
    if (!changed) return {};
    std::vector<NodeId> ids;
    for (const Value& value : in) ids.push_back(value.id);
    return call.graph.add(*call.node.op, std::move(ids), call.node.attrs, call.node.name);
  });
}

}  // namespace orion::ane
