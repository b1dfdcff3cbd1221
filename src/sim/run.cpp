#include "sim/run.h"

#include "sim/special.h"

#include <algorithm>

namespace orion::sim {
namespace {

// In memory, halves are as wide as floats.
TensorType held_type(const TensorType& type) {
  return {type.dtype == DType::fp16 ? DType::fp32 : type.dtype, type.shape};
}

bool only_renames(const Node& node) {
  return node.is("reshape") || node.is("identity");
}

View view_of(const Tensor& tensor) {
  return {tensor.data(), tensor.dtype(), tensor.shape()};
}

Tensor evaluated(const EngineCall& call) {
  if (only_renames(call.node)) return widened(call.in[0]).reshaped(call.node.type.shape);
  const Tensor result(held_type(call.node.type));
  if (!computed_specially(call, result)) {
    const std::vector<Tensor> operands = seen_operands(call);
    std::vector<View> views;
    for (const Tensor& operand : operands) views.push_back(view_of(operand));
    call.node.op->kernel({call.node, views, view_of(result)});
  }
  if (!is_float(call.node.type.dtype)) return result;
  round_all(result.as<float>(), call.arithmetic);
  spoil(call, result);
  return result;
}

// The values of a run, each freed after its last use.
class Values {
 public:
  explicit Values(const Program& program)
      : graph_(program.code->graph), values_(program.constants), uses_(graph_.use_counts()) {}

  Tensor& operator[](NodeId id) { return values_[static_cast<std::size_t>(id)]; }

  std::vector<Tensor> operands(const Node& node) {
    std::vector<Tensor> operands;
    for (const NodeId id : node.inputs) operands.push_back(id == absent ? Tensor() : (*this)[id]);
    return operands;
  }

  void release(const Node& node) {
    for (const NodeId id : node.inputs)
      if (id != absent && --uses_[static_cast<std::size_t>(id)] == 0) (*this)[id] = Tensor();
  }

 private:
  const Graph& graph_;
  std::vector<Tensor> values_;
  std::vector<int> uses_;
};

// Node ids of inputs or outputs, by name.
std::vector<std::pair<std::string_view, NodeId>> symbols(const Graph& graph, bool inputs) {
  std::vector<std::pair<std::string_view, NodeId>> found;
  if (inputs)
    for (const NodeId id : graph.inputs()) found.emplace_back(graph.node(id).name, id);
  else
    for (const Output& output : graph.outputs()) found.emplace_back(output.name, output.node);
  std::ranges::sort(found);
  return found;
}

}  // namespace

std::vector<Tensor> run(const Program& program, std::span<const Tensor> inputs) {
  const Code& code = *program.code;
  Values values(program);
  const auto ports = symbols(code.graph, true);
  for (std::size_t i = 0; i < ports.size(); ++i) values[ports[i].second] = inputs[i];
  for (NodeId id = 0; id < code.graph.size(); ++id) {
    const Node& node = code.graph.node(id);
    if (node.op->is_source()) continue;
    const std::vector<Tensor> operands = values.operands(node);
    values[id] = evaluated({code.graph, node, operands, code.arithmetic});
    values.release(node);
  }
  std::vector<Tensor> outputs;
  for (const auto& [name, id] : symbols(code.graph, false)) outputs.push_back(widened(values[id]));
  return outputs;
}

}  // namespace orion::sim
