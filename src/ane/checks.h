// Which limits a program can be seen to cross, and how.
#pragma once

#include "mil/syntax.h"
#include "orion/ane.h"

#include <functional>

namespace orion::ane {

/// A program as its graph shows it.
struct GraphFacts {
  const Graph& graph;
  const Profile& profile;
  std::vector<const Node*> stored = {};  // what it reads from weight files
  std::vector<bool> constant = {};       // by node: known when the program is compiled

  const Node& operand(const Node& node, std::size_t index) const { return graph.node(node.inputs[index]); }
  bool is_constant(const Node& node, std::size_t index) const {
    return constant[static_cast<std::size_t>(node.inputs[index])];
  }
};

/// Whether one node crosses a limit.
struct NodeCheck {
  std::string_view limit;
  bool (*crosses)(const GraphFacts&, const Node&);
};

/// Where a program as a whole crosses a limit; empty if it does not.
struct GraphCheck {
  std::string_view limit;
  std::vector<std::string> (*places)(const GraphFacts&);
};

/// The same for what only the text shows.
struct TextCheck {
  std::string_view limit;
  std::vector<std::string> (*places)(const mil::Function&, const Profile&);
};

std::span<const NodeCheck> node_checks();
std::span<const GraphCheck> graph_checks();
std::span<const TextCheck> text_checks();

/// An op that the engine is reported to lack, by MIL's name.
bool lacks_engine(std::string_view op);

}  // namespace orion::ane
