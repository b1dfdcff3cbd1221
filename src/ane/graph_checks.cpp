// Limits that a program crosses as a whole, or with an input or output.
#include "ane/checks.h"
#include "ane/legal_program.h"
#include "ane/limits.h"
#include "orion/error.h"

#include <algorithm>

namespace orion::ane {
namespace {

using Places = std::vector<std::string>;

struct PortFacts {
  std::string_view what;  // "input"
  std::string name;
  TensorType type;
};

std::string shown(const PortFacts& port) {
  return str(port.what, " '", port.name, "' is ", port.type);
}

std::vector<PortFacts> inputs(const Graph& graph) {
  std::vector<PortFacts> ports;
  for (const NodeId id : graph.inputs()) ports.push_back({"input", graph.node(id).name, graph.node(id).type});
  return ports;
}

std::vector<PortFacts> outputs(const Graph& graph) {
  std::vector<PortFacts> ports;
  for (const Output& output : graph.outputs())
    ports.push_back({"output", output.name, graph.node(output.node).type});
  return ports;
}

template <class Crosses>
Places ports_where(const GraphFacts& facts, const Crosses& crosses) {
  Places places;
  for (const auto& ports : {inputs(facts.graph), outputs(facts.graph)})
    for (const PortFacts& port : ports)
      if (crosses(port.type)) places.push_back(shown(port));
  return places;
}

Places narrow_ports(const GraphFacts& facts) {
  const std::int64_t least = facts.profile.minimum_width;
  Places places = ports_where(facts, [least](const TensorType& type) {
    return (type.shape.rank() == 0 ? 1 : type.shape.back()) < least;
  });
  for (std::string& place : places) place += str(", its last axis needs ", least);
  return places;
}

Places fp32_ports(const GraphFacts& facts) {
  return ports_where(facts, [](const TensorType& type) { return type.dtype == DType::fp32; });
}

Places other_ports(const GraphFacts& facts) {
  return ports_where(facts, [](const TensorType& type) { return !is_float(type.dtype); });
}

// Ports smaller than the largest.
Places unequal(const std::vector<PortFacts>& ports) {
  const auto bytes = [](const PortFacts& port) { return port.type.bytes(); };
  Places places;
  if (ports.empty()) return places;
  const PortFacts& largest = *std::ranges::max_element(ports, {}, bytes);
  for (const PortFacts& port : ports)
    if (bytes(port) != bytes(largest))
      places.push_back(
          str(shown(port), ", ", bytes(port), " bytes, and '", largest.name, "' has ", bytes(largest)));
  return places;
}

Places unequal_inputs(const GraphFacts& facts) {
  return unequal(inputs(facts.graph));
}

Places unequal_outputs(const GraphFacts& facts) {
  return unequal(outputs(facts.graph));
}

Places several_inputs(const GraphFacts& facts) {
  const std::size_t count = facts.graph.inputs().size();
  return count > 1 ? Places{str("the program has ", count, " inputs")} : Places{};
}

Places many_outputs(const GraphFacts& facts) {
  const std::size_t count = facts.graph.outputs().size();
  return count > 2 ? Places{str("the program has ", count, " outputs")} : Places{};
}

Places above(std::size_t stored, std::int64_t most) {
  if (most < 0 || static_cast<std::int64_t>(stored) <= most) return {};
  return {str("the program reads ", stored, " tensors from its weight file, ", most, " are possible")};
}

Places many_weights(const GraphFacts& facts) {
  const std::int64_t most = facts.profile.weights_per_program;
  return above(facts.stored.size(), most == 0 ? -1 : most);
}

bool has_scalar_operand(const GraphFacts& facts, const Node& node) {
  if (!node.is("add") && !node.is("mul") && !node.is("pow")) return false;
  return std::ranges::any_of(node.inputs, [&](NodeId id) {
    const Node& operand = facts.graph.node(id);
    return operand.is("const") && operand.type.shape.size() == 1;
  });
}

// Only what the scalar adds: programs beyond the limit itself are many_weights' matter.
Places many_weights_and_scalar(const GraphFacts& facts) {
  const std::int64_t most = facts.profile.weights_per_program;
  if (most == 0 || static_cast<std::int64_t>(facts.stored.size()) != most) return {};
  const auto takes_slot = [&](const Node& node) { return has_scalar_operand(facts, node); };
  return std::ranges::any_of(facts.graph.nodes(), takes_slot) ? above(facts.stored.size(), most - 1)
                                                              : Places{};
}

Places heavy(const GraphFacts& facts) {
  std::int64_t bytes = 0;
  for (const Node* node : facts.stored) bytes += static_cast<std::int64_t>(node->type.bytes());
  return bytes >= weight_bytes_limit ? Places{str("the program's weights take ", bytes, " bytes")} : Places{};
}

Places large_working_set(const GraphFacts& facts) {
  const SramEstimate estimate = sram_estimate(facts.graph);
  if (estimate.peak <= facts.profile.sram_bytes) return {};
  return {str("'", facts.graph.node(estimate.at).name, "' needs ", estimate.peak, " bytes at once, ",
              facts.profile.sram_bytes, " are near the engine")};
}

Places many_convolutions(const GraphFacts& facts) {
  constexpr std::ptrdiff_t least_that_hang = 387;
  const auto count =
      std::ranges::count_if(facts.graph.nodes(), [](const Node& node) { return node.is("conv"); });
  return count >= least_that_hang ? Places{str("the program has ", count, " conv")} : Places{};
}

}  // namespace

std::span<const GraphCheck> graph_checks() {
  static constexpr GraphCheck checks[] = {
      {"uniform-outputs", unequal_outputs},
      {"minimum-width", narrow_ports},
      {"uniform-inputs", unequal_inputs},
      {"fp32-ports", fp32_ports},
      {"port-types", other_ports},
      {"weight-tensors", many_weights},
      {"scalar-takes-slot", many_weights_and_scalar},
      {"program-weights-2gb", heavy},
      {"sram-working-set", large_working_set},
      {"conv-layers", many_convolutions},
      {"single-input", several_inputs},
      {"last-output-only", many_outputs},
  };
  return checks;
}

}  // namespace orion::ane
