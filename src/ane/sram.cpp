// How much a program holds at once, by the lifetimes of its values.
#include "ane/legalize_passes.h"
#include "ir/rewrite.h"
#include "orion/op.h"

#include <algorithm>
#include <iomanip>
#include <sstream>

namespace orion::ane {
namespace {

// Per node: the node whose memory it is a view of (itself if none), and the last node that reads that memory.
struct Lifetimes {
  std::vector<NodeId> memory;
  std::vector<NodeId> last_use;
};

Lifetimes lifetimes(const Graph& graph) {
  const auto count = static_cast<std::size_t>(graph.size());
  Lifetimes result{std::vector<NodeId>(count), std::vector<NodeId>(count)};
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    const auto i = static_cast<std::size_t>(id);
    result.memory[i] = node.is("reshape") ? result.memory[static_cast<std::size_t>(node.inputs[0])] : id;
    result.last_use[i] = id;
    for (const NodeId input : node.inputs)
      if (input != absent)
        result.last_use[static_cast<std::size_t>(result.memory[static_cast<std::size_t>(input)])] = id;
  }
  for (const Output& output : graph.outputs()) {
    const NodeId memory = result.memory[static_cast<std::size_t>(output.node)];
    result.last_use[static_cast<std::size_t>(memory)] = graph.size();
  }
  return result;
}

bool is_stored(const Node& node) {
  return node.is("weight") || node.is("const");
}

std::int64_t bytes_of(const Node& node) {
  return static_cast<std::int64_t>(node.type.bytes());
}

// Depth first from the outputs: what a node needs is computed just before it.
void visit(const Graph& graph, NodeId id, std::vector<NodeId>& place, std::vector<NodeId>& order) {
  if (place[static_cast<std::size_t>(id)] != absent) return;
  for (const NodeId input : graph.node(id).inputs)
    if (input != absent) visit(graph, input, place, order);
  place[static_cast<std::size_t>(id)] = static_cast<NodeId>(order.size());
  order.push_back(id);
}

Graph depth_first(const Graph& graph) {
  std::vector<NodeId> place(static_cast<std::size_t>(graph.size()), absent);
  std::vector<NodeId> order;
  for (const NodeId input : graph.inputs()) visit(graph, input, place, order);
  for (const Output& output : graph.outputs()) visit(graph, output.node, place, order);
  Graph result(graph.name());
  for (const NodeId id : order) {
    std::vector<NodeId> inputs;
    for (const NodeId input : graph.node(id).inputs)
      inputs.push_back(input == absent ? absent : place[static_cast<std::size_t>(input)]);
    result.copy(graph.node(id), std::move(inputs));
  }
  for (const Output& output : graph.outputs())
    result.output(output.name, result.value(place[static_cast<std::size_t>(output.node)]));
  return result;
}

}  // namespace

SramEstimate sram_estimate(const Graph& graph) {
  const Lifetimes lives = lifetimes(graph);
  SramEstimate estimate;
  std::vector<std::vector<NodeId>> ending(static_cast<std::size_t>(graph.size()) + 1);
  std::int64_t held = 0;
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    const auto i = static_cast<std::size_t>(id);
    std::int64_t streamed = 0;
    for (const NodeId input : node.inputs)
      if (input != absent && is_stored(graph.node(input))) streamed += bytes_of(graph.node(input));
    if (!is_stored(node) && lives.memory[i] == id) {
      held += bytes_of(node);
      ending[static_cast<std::size_t>(lives.last_use[i])].push_back(id);
    }
    estimate.bytes.push_back(held + streamed);
    if (estimate.at == absent || estimate.bytes.back() > estimate.peak)
      estimate.peak = estimate.bytes.back(), estimate.at = id;
    for (const NodeId ended : ending[i]) held -= bytes_of(graph.node(ended));
  }
  return estimate;
}

std::string mebibytes(std::int64_t bytes) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(2) << static_cast<double>(bytes) / (1024.0 * 1024.0);
  return out.str();
}

//   %2 relu: fp16 (1, 64, 1, 64) = relu(x=%1)
// is printed as
//   %2 relu: fp16 (1, 64, 1, 64) = relu(x=%1)  # 0.02 MiB
std::string annotated(const Graph& graph, const SramEstimate& estimate) {
  std::vector<std::string> notes;
  for (NodeId id = 0; id < graph.size(); ++id) {
    const std::int64_t bytes = estimate.bytes[static_cast<std::size_t>(id)];
    notes.push_back(graph.node(id).op->is_source() ? "" : mebibytes(bytes) + " MiB");
  }
  return to_text(graph, notes);
}

//   %2 = exp(x=%0)      large, needed last
//   %3 = tanh(x=%0)
//   %4 = add(x=reduce_sum(x=%3), y=reduce_sum(x=%2))
// becomes
//   %2 = tanh(x=%0)
//   %3 = reduce_sum(x=%2)
//   %4 = exp(x=%0)
//   ...
Graph order_for_sram(const Graph& graph, std::int64_t bytes) {
  const std::int64_t peak = sram_estimate(graph).peak;
  if (peak <= bytes) return graph;
  Graph other = depth_first(graph);
  return sram_estimate(other).peak < peak ? other : graph;
}

}  // namespace orion::ane
