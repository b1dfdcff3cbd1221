#include "ir/rewrite.h"

#include "orion/error.h"
#include "orion/op.h"

namespace orion {

std::vector<bool> live_nodes(const Graph& graph) {
  std::vector<bool> live(static_cast<std::size_t>(graph.size()), false);
  for (const Output& output : graph.outputs()) live[static_cast<std::size_t>(output.node)] = true;
  for (NodeId id = graph.size() - 1; id >= 0; --id) {
    if (!live[static_cast<std::size_t>(id)]) continue;
    for (const NodeId input : graph.node(id).inputs)
      if (input != absent) live[static_cast<std::size_t>(input)] = true;
  }
  return live;
}

Graph rewrite(const Graph& graph, const Rule& rule) {
  Graph result(graph.name());
  const std::vector<bool> live = live_nodes(graph);
  std::vector<Value> rebuilt(static_cast<std::size_t>(graph.size()));
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    if (node.is("input")) {
      rebuilt[static_cast<std::size_t>(id)] = result.input(node.name, node.type);
      continue;
    }
    if (!live[static_cast<std::size_t>(id)]) continue;
    std::vector<Value> in;
    std::vector<NodeId> ids;
    for (const NodeId input : node.inputs) {
      in.push_back(input == absent ? Value{} : rebuilt[static_cast<std::size_t>(input)]);
      ids.push_back(in.back().id);
    }
    Value value = rule({result, graph, node, id, in});
    if (!value) value = result.copy(node, std::move(ids));
    if (value.type() != node.type)
      fail("pass: ", node.name, " (", node.op->name, ") was ", node.type, ", its replacement is ",
           value.type());
    rebuilt[static_cast<std::size_t>(id)] = value;
  }
  for (const Output& output : graph.outputs())
    result.output(output.name, rebuilt[static_cast<std::size_t>(output.node)]);
  return result;
}

}  // namespace orion
