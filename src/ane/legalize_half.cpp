// Every float of a graph as fp16.
#include "ane/legalize_passes.h"
#include "ir/rewrite.h"
#include "ops/rules.h"
#include "orion/ops.h"

#include <algorithm>
#include <cmath>

namespace orion::ane {
namespace {

// Sums of two stay below 65504, and products of the engine below 2^15, beyond which it gives infinity.
constexpr float most = 32000.0F;

TensorType halved(const TensorType& type) {
  return {is_float(type.dtype) ? DType::fp16 : type.dtype, type.shape};
}

// Constants beyond fp16's range, infinities of masks among them, become the largest that is safe to add.
Tensor half_constant(const Tensor& value) {
  if (!is_float(value.dtype())) return value;
  const Tensor wide = convert(value, DType::fp32).clone();
  for (float& element : wide.as<float>())
    if (std::abs(element) > most) element = std::copysign(most, element);
  return convert(wide, DType::fp16);
}

Value half_cast(const RebuildCall& call) {
  const TensorType target = halved(call.node.type);
  if (call.in[0].dtype() == target.dtype) return call.in[0];
  return ops::cast(call.in[0], std::string(dtype_name(target.dtype)));
}

}  // namespace

Graph rebuild(const Graph& graph, const RebuildRule& rule) {
  Graph result(graph.name());
  const std::vector<bool> live = live_nodes(graph);
  std::vector<Value> rebuilt(static_cast<std::size_t>(graph.size()));
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    if (!live[static_cast<std::size_t>(id)] && !node.is("input")) continue;
    std::vector<Value> in;
    std::vector<NodeId> ids;
    for (const NodeId input : node.inputs) {
      in.push_back(input == absent ? Value{} : rebuilt[static_cast<std::size_t>(input)]);
      ids.push_back(in.back().id);
    }
    const Value value = rule({result, node, in});
    rebuilt[static_cast<std::size_t>(id)] = value ? value : result.copy(node, std::move(ids));
  }
  for (const Output& output : graph.outputs())
    result.output(output.name, rebuilt[static_cast<std::size_t>(output.node)]);
  return result;
}

//   %0 x: fp32 (1, 64, 1, 32) = input()
//   %1 fp32 = mul(x=%0, y=1e10)
// becomes
//   %0 x: fp16 (1, 64, 1, 32) = input()
//   %1 fp16 = mul(x=%0, y=32000)
Graph to_half(const Graph& graph) {
  return rebuild(graph, [](const RebuildCall& call) -> Value {
    const Node& node = call.node;
    if (node.is("input")) return call.graph.input(node.name, halved(node.type));
    if (node.is("weight")) return call.graph.weight(node.name, halved(node.type));
    if (node.is("const")) return call.graph.constant(half_constant(node.value), node.name);
    if (node.is("cast")) return half_cast(call);
    return {};
  });
}

}  // namespace orion::ane
