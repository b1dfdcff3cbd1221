#include "run/train_stages.h"

#include "orion/passes.h"

#include <algorithm>
#include <chrono>

namespace orion {
namespace {

// On the CPU these take next to no time, and their results are a third of what a layer keeps. Products'
// results in another order take none: who needs them so reads them where they are.
bool cheap(const Graph& graph, const Node& node) {
  const bool is_view =
      node.is("slice_by_index") || (node.is("transpose") && graph.node(node.inputs[0]).is("reshape"));
  return is_view || node.is("silu") || node.is("gelu") || node.is("mul") || node.is("rms_norm") ||
         node.is("layer_norm");
}

}  // namespace

StageProgram StageCompiler::compile(const Graph& graph) {
  StageProgram stage;
  const bool holds_all = weights_ != nullptr && !inputs_;
  Graph wanted = holds_all ? graph : weights_as_inputs(graph, stage.weights, inputs_);
  const bool shared = weights_ == nullptr;
  const auto known = std::ranges::find_if(
      made_, [&](const Made& made) { return shared && same_structure(made.graph, wanted); });
  if (known != made_.end()) {
    stage.program = known->program;
    return stage;
  }
  const auto start = std::chrono::steady_clock::now();
  stage.program = device_.compile(wanted, shared ? device_.load_as({}, products_) : weights_);
  seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  made_.push_back({std::move(wanted), stage.program});
  return stage;
}

GradientStage StageCompiler::compile(const Graph& graph, const std::vector<GradientPort>& gradients) {
  const StageProgram adding = compile(graph);
  return {adding, gradients.empty() ? adding : compile(overwriting(graph, gradients)), gradients};
}

void run_stage(const StageProgram& stage, const Memory& memory,
               const std::function<Tensor(const std::string&)>& weight_of) {
  const auto bound = [&](const Port& port) {
    const auto weight = std::ranges::find(stage.weights, port.name, &WeightPort::port);
    return weight == stage.weights.end() ? memory(port) : weight_of(weight->weight);
  };
  for (const Port& port : stage.program->inputs()) stage.program->bind(port.name, bound(port));
  for (const Port& port : stage.program->outputs()) stage.program->bind(port.name, bound(port));
  stage.program->run();
}

bool shared_parts(const Graph&, const Node& node) {
  return node.is("rms_norm") || node.is("layer_norm");
}

Stages layer_stages(const Graph& layer, bool in_place, const WeightTest& trained) {
  const std::string x_name = "x";
  const auto is_attention = [&](const Graph&, const Node& node) {
    return !in_place && node.is("scaled_dot_product_attention");
  };
  const Differentiated whole = differentiate(expand_composites(layer, is_attention), std::span(&x_name, 1),
                                             in_place ? NodeTest() : shared_parts, trained);
  return in_place ? in_stages(whole, cheap, false) : in_stages(whole);
}

std::size_t bytes_of(const TensorMap& tensors) {
  std::size_t total = 0;
  for (const auto& [name, tensor] : tensors) total += tensor.bytes();
  return total;
}

}  // namespace orion
