// The one driver behind every pass: rebuilds the live part of a graph, one node at a time.
#pragma once

#include "orion/graph.h"

#include <functional>

namespace orion {

struct RewriteCall {
  Graph& graph;                  // the graph being built
  const Graph& from;             // the graph being read
  const Node& node;              // the node to rebuild
  NodeId id;                     // its id in `from`
  const std::vector<Value>& in;  // its operands, already rebuilt; empty Value where absent
};

/// Returns what stands in for the node, or an empty Value to copy it.
using Rule = std::function<Value(const RewriteCall&)>;

/// A new graph in which every node that an output needs has been offered to `rule`. Inputs stay, used
/// or not, and outputs keep their names: together they are the program's interface. Unused nodes
/// and weights disappear.
Graph rewrite(const Graph& graph, const Rule& rule);

/// Which nodes the outputs need.
std::vector<bool> live_nodes(const Graph& graph);

}  // namespace orion
