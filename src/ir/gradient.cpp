#include "orion/error.h"
#include "orion/graph.h"
#include "orion/op.h"

#include <algorithm>

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

void check_seeds(const Graph& graph, std::span<const Value> of, std::span<const Value> dy) {
  if (of.size() != dy.size()) fail("gradient: ", of.size(), " values and ", dy.size(), " gradients of them");
  for (std::size_t i = 0; i < of.size(); ++i) {
    if (of[i].graph != &graph || dy[i].graph != &graph) fail("gradient: a value belongs to another graph");
    if (of[i].type() != dy[i].type() || !is_float(of[i].dtype()))
      fail("gradient: the gradient of ", of[i].node().name, " is ", dy[i].type(), ", the value is ",
           of[i].type(), "; equal float types are needed");
  }
}

void check_wrt(const Graph& graph, std::span<const Value> wrt) {
  for (const Value& value : wrt) {
    if (value.graph != &graph) fail("gradient: a value to differentiate by belongs to another graph");
    if (!is_float(value.dtype()))
      fail("gradient: ", value.node().name, " is ", value.type(), ", only floats have gradients");
  }
}

void add_to(Graph& graph, Value& sum, Value dx) {
  sum = sum ? graph.add("add", {sum, dx}) : dx;
}

// Adds what node `id` sends back to the gradients of its operands.
void send_back(Graph& graph, NodeId id, const std::vector<bool>& wanted, std::vector<Value>& dy) {
  const std::vector<NodeId> inputs = graph.node(id).inputs;
  const std::vector<Value> dx = node_gradient(graph, id, dy[static_cast<std::size_t>(id)]);
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    if (inputs[k] == absent || !dx[k] || !wanted[static_cast<std::size_t>(inputs[k])]) continue;
    if (dx[k].type() != graph.node(inputs[k]).type)
      fail(graph.node(id).op->name, ": gradient ", k, " is ", dx[k].type(), ", the operand is ",
           graph.node(inputs[k]).type);
    add_to(graph, dy[static_cast<std::size_t>(inputs[k])], dx[k]);
  }
}

}  // namespace

std::vector<Value> gradient(Graph& graph, std::span<const Value> of, std::span<const Value> dy,
                            std::span<const Value> wrt) {
  check_seeds(graph, of, dy);
  check_wrt(graph, wrt);
  NodeId last = absent;
  for (const Value& value : of) last = std::max(last, value.id);
  const std::vector<bool> wanted = on_path(graph, last, wrt);
  std::vector<Value> sums(static_cast<std::size_t>(last) + 1);
  for (std::size_t i = 0; i < of.size(); ++i) add_to(graph, sums[static_cast<std::size_t>(of[i].id)], dy[i]);
  for (NodeId id = last; id >= 0; --id) {
    const auto i = static_cast<std::size_t>(id);
    if (sums[i] && wanted[i] && !graph.node(id).op->is_source()) send_back(graph, id, wanted, sums);
  }
  std::vector<Value> result;
  for (const Value& value : wrt) {
    const bool reached = value.id <= last && sums[static_cast<std::size_t>(value.id)];
    result.push_back(reached ? sums[static_cast<std::size_t>(value.id)] : zeros(graph, value.type()));
  }
  return result;
}

std::vector<Value> gradient(Graph& graph, Value loss, std::span<const Value> wrt) {
  if (loss.graph != &graph) fail("gradient: the loss belongs to another graph");
  if (loss.shape().size() != 1 || !is_float(loss.dtype()))
    fail("gradient: the loss is ", loss.type(), ", a float scalar is needed");
  check_wrt(graph, wrt);
  const Value one =
      graph.constant(convert(Tensor::scalar(DType::fp32, 1.0), loss.dtype()).reshaped(loss.shape()));
  return gradient(graph, std::span(&loss, 1), std::span(&one, 1), wrt);
}

}  // namespace orion
