#include "orion/error.h"
#include "orion/graph.h"
#include "orion/op.h"

#include <set>

namespace orion {
namespace {

void verify_node(const Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  for (const NodeId input : node.inputs)
    if (input != absent && (input < 0 || input >= id))
      fail("verify: ", node.name, " uses node ", input, ", which is not before it");
  if (graph.find(node.name) != id) fail("verify: the name ", node.name, " does not lead to node ", id);
  if (node.op->is_source()) {
    if (node.is("const") && (node.value.empty() || node.value.type() != node.type))
      fail("verify: const ", node.name, " has no value of its type");
    return;
  }
  Node again = node;
  const TensorType type = node.op->infer(graph, again);
  if (type != node.type)
    fail("verify: ", node.name, " (", node.op->name, ") is ", node.type, ", its operands say ", type);
  if (again.attrs != node.attrs)
    fail("verify: ", node.name, " (", node.op->name, ") has attributes that are not canonical");
}

}  // namespace

void verify(const Graph& graph) {
  for (NodeId id = 0; id < graph.size(); ++id) verify_node(graph, id);
  if (graph.outputs().empty()) fail("verify: graph ", graph.name(), " has no output");
  std::set<std::string_view> names;
  for (const Output& output : graph.outputs()) {
    if (!names.insert(output.name).second) fail("verify: output ", output.name, " is given twice");
    if (output.node < 0 || output.node >= graph.size()) fail("verify: output ", output.name, " has no node");
  }
}

}  // namespace orion
