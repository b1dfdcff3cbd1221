#include "orion/error.h"
#include "orion/graph.h"
#include "orion/op.h"

namespace orion {
namespace {

Value zeros(Graph& graph, const TensorType& type) {
  return graph.constant(Tensor(type));
}

// Marks the nodes on a path from any of `wrt` to `loss`: only those need a gradient.
std::vector<bool> on_path(const Graph& graph, NodeId loss, std::span<const Value> wrt) {
  std::vector<bool> reached(static_cast<std::size_t>(loss) + 1, false);
  for (const Value& value : wrt)
    if (value.id <= loss) reached[static_cast<std::size_t>(value.id)] = true;
  for (NodeId id = 0; id <= loss; ++id)
    for (const NodeId input : graph.node(id).inputs)
      if (input != absent && reached[static_cast<std::size_t>(input)])
        reached[static_cast<std::size_t>(id)] = true;
  return reached;
}

std::vector<Value> node_gradient(Graph& graph, NodeId id, Value dy) {
  const Node& node = graph.node(id);
  if (node.op->gradient == nullptr) {
    fail(node.op->name, ": not differentiable",
         node.op->expand != nullptr ? " unless expanded first (passes: expand)" : "");
  }
  std::vector<Value> in;
  for (const NodeId input : node.inputs) in.push_back(graph.value(input));
  std::vector<Value> dx = node.op->gradient({graph, node, std::move(in), graph.value(id), dy});
  if (dx.size() != node.inputs.size())
    fail(node.op->name, ": its gradient rule gives ", dx.size(), " gradients for ", node.inputs.size(),
         " operands");
  return dx;
}

}  // namespace

std::vector<Value> gradient(Graph& graph, Value loss, std::span<const Value> wrt) {
  if (loss.graph != &graph) fail("gradient: the loss belongs to another graph");
  if (loss.shape().size() != 1 || !is_float(loss.dtype()))
    fail("gradient: the loss is ", loss.type(), ", a float scalar is needed");
  for (const Value& value : wrt) {
    if (value.graph != &graph) fail("gradient: a value to differentiate by belongs to another graph");
    if (!is_float(value.dtype()))
      fail("gradient: ", value.node().name, " is ", value.type(), ", only floats have gradients");
  }
  const std::vector<bool> wanted = on_path(graph, loss.id, wrt);
  std::vector<Value> dy(static_cast<std::size_t>(loss.id) + 1);
  dy[static_cast<std::size_t>(loss.id)] =
      graph.constant(convert(Tensor::scalar(DType::fp32, 1.0), loss.dtype()).reshaped(loss.shape()));
  for (NodeId id = loss.id; id >= 0; --id) {
    const auto i = static_cast<std::size_t>(id);
    if (!dy[i] || !wanted[i] || graph.node(id).op->is_source()) continue;
    const std::vector<NodeId> inputs = graph.node(id).inputs;
    const std::vector<Value> dx = node_gradient(graph, id, dy[i]);
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      if (inputs[k] == absent || !dx[k] || !wanted[static_cast<std::size_t>(inputs[k])]) continue;
      if (dx[k].type() != graph.node(inputs[k]).type)
        fail(graph.node(id).op->name, ": gradient ", k, " is ", dx[k].type(), ", the operand is ",
             graph.node(inputs[k]).type);
      Value& sum = dy[static_cast<std::size_t>(inputs[k])];
      sum = sum ? graph.add("add", {sum, dx[k]}) : dx[k];
    }
  }
  std::vector<Value> result;
  for (const Value& value : wrt) {
    const bool reached = value.id <= loss.id && dy[static_cast<std::size_t>(value.id)];
    result.push_back(reached ? dy[static_cast<std::size_t>(value.id)] : zeros(graph, value.type()));
  }
  return result;
}

}  // namespace orion
