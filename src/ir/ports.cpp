#include "orion/graph.h"

namespace orion {

std::vector<Port> input_ports(const Graph& graph) {
  std::vector<Port> ports;
  for (const NodeId id : graph.inputs()) ports.push_back({graph.node(id).name, graph.node(id).type});
  return ports;
}

std::vector<Port> output_ports(const Graph& graph) {
  std::vector<Port> ports;
  for (const Output& output : graph.outputs()) ports.push_back({output.name, graph.node(output.node).type});
  return ports;
}

std::vector<Port> weight_ports(const Graph& graph) {
  std::vector<Port> ports;
  for (const Node& node : graph.nodes())
    if (node.is("weight")) ports.push_back({node.name, node.type});
  return ports;
}

}  // namespace orion
