// Device-free rewrites: each takes a graph and gives an equivalent, simpler one.
#pragma once

#include "orion/graph.h"

#include <functional>
#include <span>

namespace orion {

struct PassDef {
  std::string_view name;
  std::string_view doc;  // what it does, with the graph before and after
  Graph (*run)(const Graph&);
};

/// Every pass, in the order of the pipeline.
std::span<const PassDef> all_passes();

/// Runs the whole pipeline until nothing changes. Results are unchanged to the last bit; inputs,
/// outputs and their names are kept. With ORION_DEBUG=1 in the environment the graph is printed
/// to stderr after each pass that changed it.
Graph optimize(const Graph& graph);

/// Replaces composite ops by their simpler form, repeatedly, wherever `wanted` says so.
Graph expand_composites(const Graph& graph, const std::function<bool(const Graph&, const Node&)>& wanted);

/// True if both compute the same thing in the same way: same nodes in the same order, node names aside.
bool same_structure(const Graph& a, const Graph& b);

}  // namespace orion
