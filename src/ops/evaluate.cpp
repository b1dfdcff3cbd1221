// Running nodes and graphs by the table's own kernels: constant folding, and every test's reference.
#include "orion/error.h"
#include "orion/op.h"

namespace orion {
namespace {

// fp16 operands reach kernels widened to fp32.
Tensor widened(const Tensor& tensor) {
  return !tensor.empty() && tensor.dtype() == DType::fp16 ? convert(tensor, DType::fp32) : tensor;
}

const Tensor& named(const TensorMap& tensors, const Node& node) {
  const auto found = tensors.find(node.name);
  if (found == tensors.end()) fail(node.op->name, " '", node.name, "' is not given");
  if (found->second.type() != node.type)
    fail(node.op->name, " '", node.name, "' is ", found->second.type(), ", the graph wants ", node.type);
  return found->second;
}

}  // namespace

Tensor evaluate(const Node& node, std::span<const Tensor> operands) {
  std::vector<Tensor> wide;
  std::vector<View> in;
  for (const Tensor& operand : operands) {
    wide.push_back(widened(operand));
    in.push_back({wide.back().data(), wide.back().dtype(), wide.back().shape()});
  }
  const DType storage = node.type.dtype == DType::fp16 ? DType::fp32 : node.type.dtype;
  const Tensor out(TensorType{storage, node.type.shape});
  node.op->kernel({node, in, {out.data(), storage, out.shape()}});
  return convert(out, node.type.dtype);
}

TensorMap evaluate(const Graph& graph, const TensorMap& inputs, const TensorMap& weights) {
  std::vector<Tensor> values;
  for (const Node& node : graph.nodes()) {
    if (node.op->is_source()) {
      values.push_back(node.is("const") ? node.value : named(node.is("input") ? inputs : weights, node));
      continue;
    }
    std::vector<Tensor> operands;
    for (const NodeId input : node.inputs)
      operands.push_back(input == absent ? Tensor() : values[static_cast<std::size_t>(input)]);
    values.push_back(evaluate(node, operands));
  }
  TensorMap outputs;
  for (const Output& output : graph.outputs())
    outputs[output.name] = values[static_cast<std::size_t>(output.node)];
  return outputs;
}

}  // namespace orion
